"""`testing.assert_idempotent`: content with what is right, and finds each bug."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, TestCase, override_settings
from django.test.client import MULTIPART_CONTENT
from django.urls import path
from django.utils.crypto import get_random_string

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.testing import Call, assert_idempotent
from tests.testapp.models import Order

from .browser import URLENCODED
from .ordering import orders, signed_in_client

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]


class Meeting:
    """Lets the copies of the storm, which has the second key, look before any acts."""

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.barrier = threading.Barrier(2, timeout=30)

    def wait(self, request: HttpRequest) -> None:
        self.keys.add(request.headers["Idempotency-Key"])
        if len(self.keys) == 2:
            self.barrier.wait()


meeting = Meeting()


@pytest.fixture(autouse=True)
def fresh_meeting() -> Iterator[None]:
    meeting.__init__()  # type: ignore[misc]
    yield
    cache.clear()
    charges.clear()


def amount_in(request: HttpRequest) -> int:
    if request.content_type == "application/json":
        return int(json.loads(request.body)["amount"])
    return int(request.POST["amount"])


def placed(request: HttpRequest) -> HttpResponse:
    order = Order.objects.create(amount=amount_in(request))
    return JsonResponse({"order": order.pk}, status=201)


def reference_of(request: HttpRequest) -> str:
    return f"{request.user.pk}:{request.headers['Idempotency-Key']}"


def answered_again(
    order: Order, amount: int, content: dict[str, Any] | None = None
) -> HttpResponse:
    """A replay by hand, with every nicety."""
    if order.amount != amount:
        return HttpResponse(status=422)
    return JsonResponse(
        content or {"order": order.pk},
        status=201,
        headers={"Idempotency-Replayed": "true"},
    )


THANKS = {"thank": "you"}


@idempotent
def protected(request: HttpRequest) -> HttpResponse:
    return placed(request)


def unprotected(request: HttpRequest) -> HttpResponse:
    return placed(request)


def looks_first(request: HttpRequest) -> HttpResponse:
    """The usual home-made protection: right, as long as one copy comes at a time.

    Its answers are equal whoever wins.
    """
    reference, amount = reference_of(request), amount_in(request)
    order = cache.get(reference)
    if order is not None:
        return answered_again(order, amount, THANKS)
    meeting.wait(request)
    order = Order.objects.create(amount=amount)
    cache.set(reference, order)
    return JsonResponse(THANKS, status=201)


def looks_first_and_has_a_constraint(request: HttpRequest) -> HttpResponse:
    """Nothing is done twice, and the loser of the race is sent a crash."""
    reference, amount = reference_of(request), amount_in(request)
    order = Order.objects.filter(reference=reference).first()
    if order is not None:
        return answered_again(order, amount)
    meeting.wait(request)
    order = Order.objects.create(reference=reference, amount=amount)
    return JsonResponse({"order": order.pk}, status=201)


def random_answer(request: HttpRequest) -> HttpResponse:
    """The work is done once, and the answer is made anew each time."""
    Order.objects.get_or_create(reference=reference_of(request))
    return JsonResponse({"receipt": get_random_string(12)}, status=201)


def unmarked(request: HttpRequest) -> HttpResponse:
    order, _ = Order.objects.get_or_create(reference=reference_of(request))
    return JsonResponse({"order": order.pk}, status=201)


def carries_out_other_payloads(request: HttpRequest) -> HttpResponse:
    """The key is looked up together with the payload."""
    amount = amount_in(request)
    order, is_new = Order.objects.get_or_create(
        reference=f"{reference_of(request)}:{amount}", defaults={"amount": amount}
    )
    if is_new:
        return JsonResponse({"order": order.pk}, status=201)
    return answered_again(order, amount)


@idempotent(exclude=("amount",))
def excludes_too_much(request: HttpRequest) -> HttpResponse:
    return placed(request)


charges: list[int] = []


def charges_outside_the_protection(request: HttpRequest) -> HttpResponse:
    key = request.headers["Idempotency-Key"]
    if not IdempotencyRecord.objects.filter(key=key).exists():
        meeting.wait(request)
        charges.append(amount_in(request))
    return protected(request)


@idempotent
def refuses(request: HttpRequest) -> HttpResponse:
    return HttpResponse("no", status=403)


VIEWS: dict[str, Any] = {
    view.__name__: view
    for view in (
        protected,
        unprotected,
        looks_first,
        looks_first_and_has_a_constraint,
        random_answer,
        unmarked,
        carries_out_other_payloads,
        excludes_too_much,
        charges_outside_the_protection,
        refuses,
    )
}
if find_spec("rest_framework") is not None:
    from .rest_orders import RestOrder, rest_order

    VIEWS |= {"rest": RestOrder.as_view(), "rest_function": rest_order}

urlpatterns = [path(f"{name}/", view) for name, view in VIEWS.items()]


def check(
    view: str,
    *,
    client: Client | None = None,
    effects: Callable[[], object] = orders,
    copies: int = 2,
    **options: Any,
) -> None:
    assert_idempotent(
        client or signed_in_client(),
        Call(path=f"/{view}/", data={"amount": 1}),
        effects=effects,
        other_data={"amount": 2},
        copies=copies,
        **options,
    )


def finding(view: str, **options: Any) -> str:
    """What it says about a view that isn't right."""
    with pytest.raises(AssertionError) as caught:
        check(view, **options)
    return str(caught.value)


# What is right


def test_protected_view_is_right() -> None:
    check("protected", other_client=signed_in_client("bob"), copies=8)


@pytest.mark.parametrize("view", ["rest", "rest_function"])
def test_protected_rest_view_is_right(view: str) -> None:
    pytest.importorskip("rest_framework")
    check(view, other_client=signed_in_client("bob"))


@pytest.mark.parametrize(
    "options", [{}, {"content_type": None, "extra": {"format": "json"}}]
)
def test_client_of_rest_framework_will_do(options: dict[str, Any]) -> None:
    testing = pytest.importorskip("rest_framework.test")
    client = testing.APIClient()
    client.cookies = signed_in_client().cookies
    assert_idempotent(
        client,
        Call(path="/rest/", data={"amount": 1}, **options),
        effects=orders,
        other_data={"amount": 2},
        copies=2,
    )


@pytest.mark.parametrize(
    ("content_type", "data", "other_data"),
    [
        pytest.param(URLENCODED, "amount=1", "amount=2", id="urlencoded"),
        pytest.param(MULTIPART_CONTENT, {"amount": 1}, {"amount": 2}, id="multipart"),
        pytest.param(None, {"amount": 1}, {"amount": 2}, id="client's-own"),
        pytest.param("application/json", b'{"amount": 1}', b'{"amount": 2}', id="json"),
    ],
)
def test_protected_form_is_right(
    content_type: str | None, data: Any, other_data: Any
) -> None:
    assert_idempotent(
        signed_in_client(),
        Call(path="/protected/", data=data, content_type=content_type),
        effects=orders,
        other_data=other_data,
        copies=2,
    )


def test_protected_put_is_right() -> None:
    assert_idempotent(
        signed_in_client(),
        Call(path="/protected/", data={"amount": 1}, method="put"),
        effects=orders,
        other_data={"amount": 2},
        copies=2,
    )


@override_settings(IDEMPOTENCY_HEADER="X-Request-Token")
def test_configured_header_carries_the_key() -> None:
    check("protected")


@override_settings(IDEMPOTENCY_REPLAYED_HEADER="X-Again")
def test_configured_marker_is_looked_for() -> None:
    check("protected")


def test_call_of_a_guest_is_right() -> None:
    check("protected", client=Client())


@pytest.mark.parametrize(
    "effects",
    [
        pytest.param(lambda: (orders(), "constant"), id="tuple"),
        pytest.param(lambda: sorted(Order.objects.values_list("pk")), id="list"),
        pytest.param(lambda: {"orders": orders()}, id="dict"),
    ],
)
def test_effects_need_not_be_numbers(effects: Callable[[], object]) -> None:
    check("protected", effects=effects)


def test_work_is_done_for_each_of_the_two_keys() -> None:
    check("protected", copies=8)

    assert orders() == 2


# What is not


def test_unprotected_view_is_found() -> None:
    assert finding("unprotected") == (
        "The work was done twice: effects() went from 0 to 1 with the first call and "
        "to 2 with its repeat. Is the view protected?"
    )


def test_race_of_a_view_that_looks_first_is_found() -> None:
    assert finding("looks_first").startswith(
        "2 of 2 copies in the same instant were carried out"
    )


def test_race_is_not_found_without_copies() -> None:
    """Negative control: it takes copies in the same instant to find it."""
    check("looks_first", copies=0)


def test_crash_of_one_copy_is_found_and_told_as_its_answer() -> None:
    assert finding("looks_first_and_has_a_constraint").startswith(
        "Copies in the same instant got [201, 500]"
    )


def test_answer_that_is_made_anew_is_found() -> None:
    assert finding("random_answer").startswith(
        "The repeat got another answer than the first call: 201"
    )


def test_repeat_without_the_marker_is_found() -> None:
    assert finding("unmarked").startswith(
        "The repeat was not marked with Idempotency-Replayed"
    )


def test_payload_that_is_carried_out_under_a_used_key_is_found() -> None:
    assert finding("carries_out_other_payloads").startswith(
        "Another payload under the same key was carried out"
    )


def test_policy_that_excludes_too_much_is_found() -> None:
    assert finding("excludes_too_much").startswith(
        "Another payload under the same key must be refused with 422"
    )


def everybody(request: HttpRequest) -> str:
    return "somebody"


@override_settings(IDEMPOTENCY_PRINCIPAL=f"{__name__}.everybody")
def test_principal_that_is_everybody_is_found() -> None:
    assert finding("protected", other_client=signed_in_client("bob")).startswith(
        "Another caller with the same key was sent the first caller's answer."
    )


def test_effects_that_count_nothing_are_found() -> None:
    assert finding("protected", effects=lambda: 7).startswith(
        "The first call changed nothing that effects() returns"
    )


def test_call_that_does_not_succeed_is_found() -> None:
    assert finding("refuses") == (
        "The call must succeed to be repeated; it answered 403: b'no'"
    )


def test_charge_that_copies_double_is_found_beside_an_order_that_they_dont() -> None:
    assert finding(
        "charges_outside_the_protection", effects=lambda: (orders(), len(charges))
    ) == (
        "2 copies in the same instant moved effects() from (1, 1) to (2, 3); one call "
        "moves it by (1, 1)."
    )


# Where it can't be asked


class InTestCase(TestCase):
    def test_copies_inside_a_transaction_are_refused_with_the_way_out(self) -> None:
        with self.assertRaisesMessage(
            AssertionError, "use TransactionTestCase or django_db(transaction=True)"
        ):
            check("protected")

    def test_all_but_the_race_is_asked_inside_a_transaction(self) -> None:
        """FR-106."""
        check("protected", other_client=signed_in_client("bob"), copies=0)

    def test_bug_is_found_inside_a_transaction(self) -> None:
        assert finding("unprotected", copies=0).startswith("The work was done twice")
