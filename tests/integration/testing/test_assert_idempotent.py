"""`testing.assert_idempotent`: content with what is right, and finds each bug."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, TestCase, override_settings
from django.test.client import MULTIPART_CONTENT
from django.urls import path
from django.utils.crypto import get_random_string
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.testing import Call, assert_idempotent
from tests.support.ordering import FORM, orders, signed_in_client
from tests.testapp.models import Order

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
        headers={
            "Idempotency-Replayed": "true",
            # By another clock than that of the first answer.
            "Idempotency-Expires": "Sun, 06 Nov 1994 08:49:37 GMT",
        },
    )


THANKS = {"thank": "you"}


def unprotected(request: HttpRequest) -> HttpResponse:
    order = Order.objects.create(amount=amount_in(request))
    return JsonResponse({"order": order.pk}, status=201)


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


protected = idempotent(unprotected)
charges: list[int] = []


def charges_outside_the_protection(request: HttpRequest) -> HttpResponse:
    key = request.headers["Idempotency-Key"]
    if not IdempotencyRecord.objects.filter(key=key).exists():
        meeting.wait(request)
        charges.append(amount_in(request))
    return protected(request)


def refuses(request: HttpRequest) -> HttpResponse:
    return HttpResponse("no", status=403)


def placed(request: Request) -> Response:
    data: Any = request.data
    order = Order.objects.create(amount=data["amount"])
    return Response({"order": order.pk}, status=201)


class RestOrder(IdempotencyMixin, APIView):
    def post(self, request: Request) -> Response:
        return placed(request)


VIEWS: dict[str, Any] = {
    "protected": protected,
    "rest": RestOrder.as_view(),
    "rest_function": api_view(["POST"])(idempotent(placed)),
    "excludes_too_much": idempotent(exclude=("amount",))(unprotected),
} | {
    view.__name__: view
    for view in (
        unprotected,
        looks_first,
        looks_first_and_has_a_constraint,
        random_answer,
        unmarked,
        carries_out_other_payloads,
        charges_outside_the_protection,
        refuses,
    )
}

urlpatterns = [path(f"{name}/", view) for name, view in VIEWS.items()]


DATA, OTHER_DATA = {"amount": 1}, {"amount": 2}


def check(
    view: str,
    *,
    client: Client | None = None,
    effects: Callable[[], object] = orders,
    data: Any = DATA,
    other_data: Any = OTHER_DATA,
    copies: int = 2,
    other_client: Client | None = None,
    **call: Any,
) -> None:
    assert_idempotent(
        client or signed_in_client(),
        Call(path=f"/{view}/", data=data, **call),
        effects=effects,
        other_data=other_data,
        other_client=other_client,
        copies=copies,
    )


def finding(view: str, **options: Any) -> str:
    """What it says about a view that isn't right."""
    with pytest.raises(AssertionError) as caught:
        check(view, **options)
    return str(caught.value)


# What is right


@pytest.mark.parametrize("view", ["protected", "rest", "rest_function"])
def test_protected_view_is_right(view: str) -> None:
    check(view, other_client=signed_in_client("bob"), copies=8)

    assert orders() == 4  # three keys were used, and one of them by Bob as well


@pytest.mark.parametrize(
    "options", [{}, {"content_type": None, "extra": {"format": "json"}}]
)
def test_client_of_rest_framework_will_do(options: dict[str, Any]) -> None:
    client = APIClient()
    client.cookies = signed_in_client().cookies
    check("rest", client=client, **options)


@pytest.mark.parametrize(
    "call",
    [
        {"method": "put"},
        {"content_type": MULTIPART_CONTENT},
        {"content_type": None},  # the client's own
        {"content_type": FORM, "data": "amount=1", "other_data": "amount=2"},
        {"data": b'{"amount": 1}', "other_data": b'{"amount": 2}'},
    ],
)
def test_payload_is_sent_as_by_the_client(call: dict[str, Any]) -> None:
    check("protected", **call)


@override_settings(
    IDEMPOTENCY_HEADER="X-Request-Token", IDEMPOTENCY_REPLAYED_HEADER="X-Again"
)
def test_configured_headers_carry_the_key_and_the_marker() -> None:
    check("protected")


def test_call_of_a_guest_is_right() -> None:
    check("protected", client=Client())


@pytest.mark.parametrize(
    "effects",
    [
        lambda: (orders(), "constant"),
        lambda: sorted(Order.objects.values_list("pk")),
        lambda: {"orders": orders()},
    ],
    ids=["tuple", "list", "dict"],
)
def test_effects_need_not_be_numbers(effects: Callable[[], object]) -> None:
    check("protected", effects=effects)


# What is not


@pytest.mark.parametrize(
    ("view", "says"),
    [
        (
            "unprotected",
            "The work was done twice: effects() went from 0 to 1 with the first call "
            "and to 2 with its repeat. Is the view protected?",
        ),
        ("looks_first", "2 of 2 copies in the same instant were carried out"),
        (
            "looks_first_and_has_a_constraint",
            "Copies in the same instant got [201, 500]",
        ),
        ("random_answer", "The repeat got another answer than the first call: 201"),
        ("unmarked", "The repeat was not marked with Idempotency-Replayed"),
        (
            "carries_out_other_payloads",
            "Another payload under the same key was carried out",
        ),
        (
            "excludes_too_much",
            "Another payload under the same key must be refused with 422",
        ),
        ("refuses", "The call must succeed, but it was answered with 403: b'no'"),
    ],
)
def test_view_that_is_not_right_is_found(view: str, says: str) -> None:
    assert finding(view).startswith(says)


def test_race_is_not_found_without_copies() -> None:
    """Negative control: it takes copies in the same instant to find it."""
    check("looks_first", copies=0)


def everybody(request: HttpRequest) -> str:
    return "somebody"


@override_settings(IDEMPOTENCY_PRINCIPAL=f"{__name__}.everybody")
def test_principal_that_is_everybody_is_found() -> None:
    assert finding("protected", other_client=signed_in_client("bob")).startswith(
        "Another caller with the same key got the first caller's answer."
    )


def test_effects_that_count_nothing_are_found() -> None:
    assert finding("protected", effects=lambda: 7).startswith(
        "The first call changed nothing that effects() returns"
    )


def test_charge_that_copies_double_is_found_beside_an_order_that_they_dont() -> None:
    assert finding(
        "charges_outside_the_protection", effects=lambda: (orders(), len(charges))
    ) == (
        "2 copies in the same instant moved effects() from (1, 1) to (2, 3), but one "
        "call moves it by (1, 1)."
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
