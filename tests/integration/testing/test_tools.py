"""`hammer`, `crash_everywhere` and `assert_handler_safe`: content with what is right."""

import inspect
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any, get_args, get_type_hints

import httpx
import pytest
import requests
from django.core.mail import send_mail
from django.db import connection, transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils.crypto import get_random_string
from psycopg.sql import SQL
from rest_framework.generics import CreateAPIView
from rest_framework.serializers import ModelSerializer

from django_idempotency.decorators import idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.testing import (
    Call,
    IdempotencyTestMixin,
    assert_handler_safe,
    assert_idempotent,
    crash_everywhere,
    deliver,
    hammer,
)
from django_idempotency.webhooks import (
    endpoints,
)
from tests.support.cases import cases
from tests.support.ordering import signed_in_client
from tests.testapp.models import Cart, CartItem, Order

from .test_interruptions import (
    TLS,
    Counter,
    bank,  # noqa: F401 - a fixture
    open_bank,  # noqa: F401 - a fixture
)

pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True),
    # Of a project without the setting MAILERS, which Django 5.2 doesn't have.
    pytest.mark.filterwarnings("ignore:Django 2028 will not have a default mailer"),
]

LEASED = {"lease": timedelta(minutes=1)}
THANKS = partial(JsonResponse, {"thank": "you"}, status=201)
SECRET = "whsec_of_this_file"  # noqa: S105 - nothing else is signed with it
CHARGE = f"{__name__}.charge"


def charge(amount: int, key: str = "") -> int:
    """What stands for the other side."""
    return amount


def place() -> int:
    return int(Order.objects.create().pk)


# Views, and what is said of them: nothing if they are right.


def right(request: Any) -> HttpResponse:
    Cart.objects.select_for_update().order_by("pk").first()
    charge(5, request.idempotency.key_for("charge"))
    with transaction.atomic():
        place()
    CartItem.objects.update(quantity=F("quantity") - 1)
    CartItem.objects.filter(quantity=0).delete()
    return THANKS()


def right_with_steps(request: Any) -> HttpResponse:
    request.idempotency.call("charge", lambda key: charge(5, key=key))
    request.idempotency.write("order", place)
    return THANKS()


async def right_async(request: Any) -> HttpResponse:
    async def charging(key: str) -> int:
        return await charge_later(5, key)

    await request.idempotency.acall("charge", charging)
    await request.idempotency.awrite("order", place)
    return THANKS()


def right_over_http(request: Any) -> HttpResponse:
    request.idempotency.call("one", Counter.by_httpx)
    request.idempotency.call("two", Counter.by_requests)
    return THANKS()


async def right_over_async_http(request: Any) -> HttpResponse:
    await request.idempotency.acall("one", Counter.by_async_httpx)
    return THANKS()


def right_in_sql(request: Any) -> HttpResponse:
    """Written by hand, as each driver takes it."""
    insert, select = "insert into testapp_cart (name) values ('by hand')", " select 1"
    statements: list[Any] = [insert, select]
    if connection.vendor == "postgresql":
        statements = [SQL(insert), select.encode()]
    with connection.cursor() as cursor:
        for each in statements:
            cursor.execute(each)
    return THANKS()


def only_asks(request: Any) -> HttpResponse:
    """A question over HTTP may be asked as often as one likes."""
    with httpx.Client(verify=TLS, trust_env=False) as one, requests.Session() as other:
        other.trust_env = False
        for session in (one, other):
            session.get(Counter.address)
    place()
    return THANKS()


def refuses_when_in_doubt(request: Any) -> HttpResponse:
    """Nothing is done then, and the customer is told so."""
    try:
        charge(5, request.idempotency.key_for("charge"))
    except TimeoutError:
        return HttpResponse(status=503)
    place()
    return THANKS()


def holds(request: Any) -> HttpResponse:
    request.idempotency.call("charge", lambda key: charge(5, key), if_unknown="hold")
    return THANKS()


def charges_without_key(request: Any) -> HttpResponse:
    charge(5)
    place()
    return THANKS()


def charges_over_http_without_key(request: Any) -> HttpResponse:
    Counter.by_httpx("")
    return THANKS()


def writes_outside_of_write(request: Any) -> HttpResponse:
    request.idempotency.call("charge", lambda key: charge(5, key))
    CartItem.objects.update(quantity=F("quantity") - 1)
    return THANKS()


def mails_after_commit(request: Any) -> HttpResponse:
    place()
    transaction.on_commit(lambda: send_mail("Thanks", "!", None, ["ann@example.com"]))
    return THANKS()


def mails_at_once(request: Any) -> HttpResponse:
    place()
    send_mail("Thanks", "!", None, ["ann@example.com"])
    return THANKS()


def declines_after_a_time_out(request: Any) -> HttpResponse:
    try:
        charge(5)
    except TimeoutError:
        return JsonResponse({"sorry": True}, status=402)
    return THANKS()


attempts: list[str] = []


def asks_more_at_first(request: Any) -> HttpResponse:
    """As with a cache that is cold: what is failed at later isn't there any more."""
    attempts.append("")
    if len(attempts) < 3:
        Cart.objects.count()
    place()
    return THANKS()


class OrderSerializer(ModelSerializer[Order]):
    class Meta:
        model = Order
        fields = ["amount"]


class Orders(IdempotencyMixin, CreateAPIView[Order]):
    """There is no line of the project's own in it."""

    queryset = Order.objects.all()
    serializer_class = OrderSerializer


async def charge_later(amount: int, key: str) -> int:
    return amount


VIEWS: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (right, {}, ""),
    (right_with_steps, {}, ""),
    (right_with_steps, LEASED, ""),
    (right_async, LEASED, ""),
    (right_over_http, {}, ""),
    (right_over_http, LEASED, ""),
    (right_over_async_http, LEASED, ""),
    (only_asks, {}, ""),
    (right_in_sql, {}, ""),
    (refuses_when_in_doubt, {}, ""),
    (holds, LEASED, ""),
    (asks_more_at_first, {}, ""),
    (charges_without_key, {}, "charge(5)\n  When the answer to {charge} was lost"),
    (charges_without_key, LEASED, "twice: outside calls: 2 added instead of 1"),
    (charges_over_http_without_key, {}, "twice: outside calls: 2 added"),
    (writes_outside_of_write, LEASED, "quantity -2 instead of quantity -1"),
    (mails_after_commit, {}, "lost: mails: 0 added instead of 1"),
    (mails_at_once, {}, "twice: mails: 2 added instead of 1"),
    (declines_after_a_time_out, {}, "the retry was answered with 402"),
]
urlpatterns = [
    path(f"{number}/", idempotent(**options)(view))
    for number, (view, options, _) in enumerate(VIEWS)
]
urlpatterns += [
    path("rest/", Orders.as_view()),
    path("nothing/", idempotent(lambda request: THANKS())),
    path("unprotected/nothing/", lambda request: THANKS()),
    path("refused/", idempotent(lambda request: HttpResponse(status=403))),
]
WRONG = [number for number, (_, _, says) in enumerate(VIEWS) if says]
RIGHT = [number for number, (_, _, says) in enumerate(VIEWS) if not says]
# What differs is who sends; that each of them is seen is shown in the other rows by what
# is found of it.
EXHAUSTIVE = (right_over_http, right_over_async_http, only_asks, refuses_when_in_doubt)


@pytest.fixture(autouse=True)
def _stock() -> None:
    Cart.objects.create(name="before").items.create(quantity=999)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(endpoints, "_endpoints", {})
    yield
    attempts.clear()


def crash(number: int) -> list[str]:
    return crash_everywhere(
        signed_in_client(),
        f"/{number}/",
        {"amount": 5},
        outside=[CHARGE, f"{CHARGE}_later"],
    )


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(
            each, marks=pytest.mark.exhaustive if VIEWS[each][0] in EXHAUSTIVE else ()
        )
        for each in RIGHT[1:]  # the first one's points are compared below
    ],
)
def test_crashes_find_nothing_where_all_is_right(number: int) -> None:
    assert crash(number)


@pytest.mark.parametrize("number", WRONG)
def test_crashes_find_what_happens_twice_or_is_lost(number: int) -> None:
    view, _, says = VIEWS[number]
    with pytest.raises(AssertionError) as caught:
        crash(number)

    assert says.format(charge=CHARGE) in str(caught.value)
    # The innermost line of the project's own.
    assert re.search(rf" in (Counter.by_httpx|{view.__name__})", str(caught.value))


def test_points_are_before_each_statement_and_after_each_that_writes() -> None:
    points = [each.removeprefix("the process ended ") for each in crash(0)]

    assert [each for each in points if each.startswith(("before", "after"))] == [
        "before SELECT … FROM testapp_cart",
        f"before {CHARGE}",
        f"after {CHARGE}",
        "before INSERT INTO testapp_order",
        "after INSERT INTO testapp_order",
        "before UPDATE testapp_cartitem",
        "after UPDATE testapp_cartitem",
        "before DELETE FROM testapp_cartitem",
        "after DELETE FROM testapp_cartitem",
        "before the view's answer was kept",
    ]


def test_statements_of_a_view_without_a_line_of_the_project_are_points() -> None:
    points = crash_everywhere(signed_in_client(), "/rest/", {"amount": 5})

    assert "the process ended after INSERT INTO testapp_order" in points


def test_what_a_call_needs_is_prepared_for_each() -> None:
    def purchase() -> Call:
        return Call(path="/1/", data={"cart": Cart.objects.create().pk})

    crash_everywhere(signed_in_client(), purchase)
    hammer(signed_in_client(), purchase, copies=2)


@pytest.mark.parametrize(
    ("tool", "where", "says"),
    [
        (crash_everywhere, "/unprotected/nothing/", "Is it protected"),
        (crash_everywhere, "/refused/", "answered with 403"),
        (hammer, "/nothing/", "nothing that could happen twice"),
        (hammer, "/refused/", "answered with 403"),
    ],
)
def test_call_that_shows_nothing_is_refused(tool: Any, where: str, says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        tool(signed_in_client(), where)


@pytest.mark.parametrize("tool", [crash_everywhere, hammer])
def test_tool_that_needs_commits_is_refused_inside_of_a_transaction(tool: Any) -> None:
    with (
        transaction.atomic(),
        pytest.raises(AssertionError, match="use TransactionTestCase"),
    ):
        tool(signed_in_client(), "/0/")


# In the same instant


def answers_at_random(request: HttpRequest) -> HttpResponse:
    Cart.objects.get_or_create(pk=99, defaults={"name": "by hand"})
    Order.objects.get_or_create(reference=request.headers["Idempotency-Key"])
    return JsonResponse({"receipt": get_random_string(12)})


urlpatterns.append(path("random/", answers_at_random))


def test_copies_of_a_protected_view_are_one() -> None:
    hammer(signed_in_client(), "/0/", copies=8, outside=[CHARGE])


def looks_first(request: HttpRequest) -> HttpResponse:
    """Right for copies that come one after the other; its table has no constraint."""
    key = request.headers["Idempotency-Key"]
    if not Cart.objects.filter(name=key).exists():
        Cart.objects.create(name=key)
    return THANKS()


def locks_all(request: HttpRequest) -> HttpResponse:
    """Right by hand: the others can't come to its next statement."""
    with transaction.atomic():
        Cart.objects.select_for_update().get(name="before")
        return looks_first(request)


urlpatterns += [path("looks-first/", looks_first), path("locks-all/", locks_all)]


def test_race_is_lost_on_each_run() -> None:
    for _ in range(8):
        with pytest.raises(AssertionError, match=r"twice: testapp\.Cart: 2 added"):
            hammer(signed_in_client(), "/looks-first/", copies=2)


@pytest.mark.postgresql  # the others have no SELECT that waits, or see an old state
def test_view_that_lets_one_copy_in_is_not_waited_for_for_ever() -> None:
    hammer(signed_in_client(), "/locks-all/", copies=4)


def test_copies_with_one_effect_and_several_answers_are_found() -> None:
    Cart.objects.create(pk=99)
    with pytest.raises(AssertionError, match="one effect, but not one answer"):
        hammer(signed_in_client(), "/random/", copies=4)


# The same again


def counts_requests(request: HttpRequest) -> HttpResponse:
    attempts.append("")
    answer: HttpResponse = NUMBERED(request)
    answer.headers["X-Request-Number"] = str(len(attempts))
    return answer


NUMBERED: Any = idempotent(right)
urlpatterns.append(path("numbered/", counts_requests))


def test_headers_of_the_repeat_are_compared() -> None:
    check = partial(
        assert_idempotent,
        signed_in_client(),
        "/numbered/",
        copies=0,
        outside=[CHARGE],
    )
    with pytest.raises(AssertionError, match=r"other headers .* X-Request-Number"):
        check()

    check(ignore_headers=["x-request-number"])


@cases(
    "method, function",
    {
        "assertIdempotent": (IdempotencyTestMixin.assertIdempotent, assert_idempotent),
        "assertHandlerSafe": (
            IdempotencyTestMixin.assertHandlerSafe,
            assert_handler_safe,
        ),
        "hammer": (IdempotencyTestMixin.hammer, hammer),
        "crashEverywhere": (IdempotencyTestMixin.crashEverywhere, crash_everywhere),
        "deliver": (IdempotencyTestMixin.deliver, deliver),
    },
)
def test_methods_are_typed_with_the_options_of_the_functions(
    method: Callable[..., Any], function: Callable[..., Any]
) -> None:
    [options] = get_args(get_type_hints(method)["options"])
    only_by_name = {
        each.name
        for each in inspect.signature(function).parameters.values()
        if each.kind is each.KEYWORD_ONLY
    }

    assert set(get_type_hints(options)) == only_by_name
