"""Work that no request asks for is done once under its key."""

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from django.db.models.functions import Now

from django_idempotency.exceptions import (
    KeyReused,
    OperationInFlight,
    OutcomeUnknown,
)
from django_idempotency.models import IdempotencyRecord
from django_idempotency.tasks import (
    arun_once,
    current_operation,
    idempotent_task,
    run_once,
)
from tests.support.cases import cases
from tests.support.records import record
from tests.support.threads import TIMEOUT, crew, start
from tests.support.values import ANSWERS
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE = timedelta(minutes=1)
SHAPES = pytest.mark.parametrize("lease", [None, MINUTE], ids=["atomic", "leased"])


def order() -> dict[str, Any]:
    return {"order": Order.objects.create().pk}


def fail() -> None:
    order()
    raise ZeroDivisionError


@SHAPES
def test_function_runs_once_and_each_copy_gets_its_result(
    lease: timedelta | None,
) -> None:
    results = [run_once("receipt:1", order, lease=lease) for _ in range(3)]

    assert results == [{"order": Order.objects.get().pk}] * 3


@SHAPES
def test_keys_are_apart(lease: timedelta | None) -> None:
    for key in ("receipt:1", "receipt:2"):
        run_once(key, order, lease=lease)

    assert Order.objects.count() == 2


@SHAPES
def test_failure_frees_the_key(lease: timedelta | None) -> None:
    """FR-028: a copy is not lost if the first one fails."""
    with pytest.raises(ZeroDivisionError):
        run_once("receipt:1", fail, lease=lease)
    # In the atomic shape what the function wrote is undone.
    assert Order.objects.count() == (0 if lease is None else 1)
    run_once("receipt:1", order, lease=lease)

    assert (record().state, record().attempts) == ("kept", 2)


@SHAPES
def test_copy_gets_any_result_as_the_first_had_it(lease: timedelta | None) -> None:
    first, copy = (run_once("answers", lambda: ANSWERS, lease=lease) for _ in range(2))

    assert repr(copy) == repr(first)


@SHAPES
def test_result_is_the_same_on_each_run(lease: timedelta | None) -> None:
    """What JSON makes of it is what the first caller gets, too."""

    def price() -> Any:
        return (Decimal("9.90"), None)

    assert [run_once("price:1", price, lease=lease) for _ in range(2)] == [
        ["9.90", None]
    ] * 2


@SHAPES
def test_result_that_cannot_be_repeated_is_refused(lease: timedelta | None) -> None:
    def unrepeatable() -> Any:
        return order() and object()

    with pytest.raises(TypeError, match="can't be remembered"):
        run_once("receipt:1", unrepeatable, lease=lease)

    assert record().state == "released"


@pytest.mark.parametrize("key", ["", "ü", "a" * 256, "a\nb", "a\0"], ids=ascii)
def test_key_that_cannot_be_stored_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="1 to 255"):
        run_once(key, order)

    assert Order.objects.count() == 0


@pytest.mark.parametrize(
    "options",
    [
        {"copies": "ignore"},
        {"lease": 60},
        {"lease": timedelta(0)},
        {"retention": timedelta(0)},
        {"wait": -MINUTE},
    ],
    ids=str,
)
def test_option_that_cannot_be_meant_is_refused_where_it_is_written(
    options: Any,
) -> None:
    with pytest.raises(ImproperlyConfigured):
        idempotent_task(key=str, **options)


def test_key_is_forgotten_after_its_retention() -> None:
    run_once("receipt:1", order, retention=timedelta(hours=1))
    life = record().expires_at - record().created_at
    IdempotencyRecord.objects.update(expires_at=Now())
    run_once("receipt:1", order)

    assert abs(life - timedelta(hours=1)) < timedelta(seconds=1)
    assert Order.objects.count() == 2


def test_new_secret_key_is_no_other_task(settings: Any) -> None:
    run_once("receipt:1", order)
    settings.SECRET_KEY = "another"  # noqa: S105
    run_once("receipt:1", order)

    assert Order.objects.count() == 1


def test_result_that_cannot_be_read_is_no_reason_to_run_again() -> None:
    run_once("receipt:1", order)
    IdempotencyRecord.objects.update(response_headers="text")
    with pytest.raises(ValueError, match="can't be read"):
        run_once("receipt:1", order)

    assert Order.objects.count() == 1


# Copies


@pytest.fixture
def may_end(request: pytest.FixtureRequest) -> Iterator[threading.Event]:
    """A function runs under ``receipt:1`` until this is set."""
    has_begun, may_end = threading.Event(), threading.Event()

    def slow() -> dict[str, Any]:
        has_begun.set()
        may_end.wait(TIMEOUT)
        return order()

    with crew() as threads:
        start(threads, run_once, "receipt:1", slow, lease=request.param)
        assert has_begun.wait(TIMEOUT)
        yield may_end
        may_end.set()


each_shape_runs = pytest.mark.parametrize(
    "may_end", [None, MINUTE], ids=["atomic", "leased"], indirect=True
)


@pytest.mark.postgresql
@each_shape_runs
def test_copy_waits_for_the_result(may_end: threading.Event) -> None:
    threading.Timer(0.2, may_end.set).start()

    assert run_once("receipt:1", order) == {"order": Order.objects.get().pk}


@pytest.mark.postgresql
@each_shape_runs
@pytest.mark.usefixtures("may_end")
def test_copy_that_skips_returns_nothing() -> None:
    assert run_once("receipt:1", order, copies="skip") is None


@pytest.mark.postgresql
@each_shape_runs
@pytest.mark.parametrize("copies", ["raise", "wait"])
@pytest.mark.usefixtures("may_end")
def test_copy_is_told_to_come_again(copies: Any) -> None:
    with pytest.raises(OperationInFlight):
        run_once("receipt:1", order, copies=copies, wait=timedelta(milliseconds=50))


@pytest.mark.postgresql
@pytest.mark.parametrize("may_end", [MINUTE], ids=["leased"], indirect=True)
@pytest.mark.usefixtures("may_end")
def test_copy_is_told_when_the_lease_is_over() -> None:
    with pytest.raises(OperationInFlight) as raised:
        run_once("receipt:1", order, copies="raise")

    assert raised.value.retry_after is not None
    assert timedelta(0) < raised.value.retry_after <= MINUTE


# Steps


def test_steps_of_a_leased_task_are_remembered() -> None:
    calls: list[str] = []

    def send() -> Any:
        current_operation().call("mail", lambda key: calls.append(key))
        if len(calls) == 1 and record().attempts == 1:
            raise ZeroDivisionError
        return current_operation().write("order", order)

    with pytest.raises(ZeroDivisionError):
        run_once("receipt:1", send, lease=MINUTE)
    run_once("receipt:1", send, lease=MINUTE)

    assert (len(calls), Order.objects.count()) == (1, 1)


def test_held_task_waits_for_a_person() -> None:
    def time_out(key: str) -> None:
        raise TimeoutError

    def send() -> Any:
        current_operation().call("mail", time_out, if_unknown="hold")

    with pytest.raises(TimeoutError):
        run_once("receipt:1", send, lease=MINUTE)
    with pytest.raises(OutcomeUnknown):
        run_once("receipt:1", send, lease=MINUTE)


@SHAPES
def test_atomic_task_alone_runs_in_a_transaction(lease: timedelta | None) -> None:
    is_atomic = run_once("receipt:1", lambda: connection.in_atomic_block, lease=lease)

    assert is_atomic is (lease is None)


# The decorator


@idempotent_task(key=lambda number: f"receipt:{number}")
def receipt(number: int) -> Any:
    """Send a receipt."""
    return order()


def test_decorated_function_runs_once_per_key_and_keeps_its_name() -> None:
    assert receipt(1) == receipt(1) != receipt(number=2)
    assert Order.objects.count() == 2
    assert (receipt.__name__, receipt.__doc__) == ("receipt", "Send a receipt.")


@idempotent_task(key=lambda number: f"receipt:{number}")
def another(number: int) -> Any:
    return order()


def test_equal_keys_of_two_functions_are_two() -> None:
    assert receipt(1) != another(1)


@idempotent_task(key=lambda number: "renamed", name="tests.receipt")
def old(number: int) -> Any:
    return order()


@idempotent_task(key=lambda number: "renamed", name="tests.receipt")
def new(number: int) -> Any:
    return order()


def test_name_that_is_given_outlives_a_renaming() -> None:
    assert old(1) == new(1)


@idempotent_task(key=lambda *args, **kwargs: "invoice:1", exclude={"trace"})
def invoice(
    number: Any, note: str = "", *lines: int, trace: object = None, **more: Any
) -> Any:
    return order()


CALLS: dict[str, Callable[[], Any]] = {
    "positional": lambda: invoice(1, ""),
    "by name": lambda: invoice(number=1),
    "with its default": lambda: invoice(1, note=""),
    "with what is excluded": lambda: invoice(1, trace=object()),
}


@cases("call", CALLS)
def test_copy_is_known_however_its_arguments_are_written(
    call: Callable[[], Any],
) -> None:
    assert call() == invoice(1)


@idempotent_task(key=lambda context, number: f"receipt:{number}")
def with_context(context: object, number: int) -> Any:
    return order()


def test_what_a_queue_puts_before_the_arguments_is_not_compared() -> None:
    assert with_context(object(), 1) == with_context(object(), 1)


OTHERS: dict[str, Callable[[], Any]] = {
    "another value": lambda: invoice(2),
    "another type": lambda: invoice("1"),
    "an optional one": lambda: invoice(1, "urgent"),
    "one more": lambda: invoice(1, "", 7),
    "one more by name": lambda: invoice(1, kind="b"),
    "a row": lambda: invoice(Order(pk=1)),
    "another row": lambda: invoice(Order(pk=2)),
    "a time": lambda: invoice(datetime(2026, 1, 1, tzinfo=UTC)),
}


@cases("call", OTHERS)
def test_key_with_other_arguments_is_refused(call: Callable[[], Any]) -> None:
    """As a view answers 422; the first call's result stays good."""
    first = invoice(1)
    with pytest.raises(
        KeyReused, match=r"test_run_once\.invoice was called under this"
    ):
        call()

    assert (invoice(1), Order.objects.count()) == (first, 1)


def test_argument_that_cannot_be_compared_is_refused_before_anything_is_done() -> None:
    with pytest.raises(TypeError, match=re.escape('exclude={"name"}')):
        invoice(object())

    assert Order.objects.count() == IdempotencyRecord.objects.count() == 0


@SHAPES
def test_number_as_a_key_is_refused_with_a_sentence(lease: timedelta | None) -> None:
    key: Any = 17
    with pytest.raises(TypeError, match=re.escape('f"receipt:{order_id}"')):
        run_once(key, order, lease=lease)


def test_function_without_a_name_of_its_own_has_to_be_given_one() -> None:
    def local() -> Any:
        return order()

    nameless: list[Any] = [lambda: order(), local]
    for function in nameless:
        with pytest.raises(
            ImproperlyConfigured, match=re.escape('name="receipts.send"')
        ):
            idempotent_task(key=lambda: "1")(function)

    named = idempotent_task(key=lambda: "1", name="tests.local")(local)
    assert named() == named()


# Async


@idempotent_task(key=lambda number: f"receipt:{number}", lease=MINUTE)
async def areceipt(number: int) -> Any:
    return await current_operation().awrite("order", order)


def test_async_function_runs_once_per_key() -> None:
    async def twice() -> list[Any]:
        try:
            return [await areceipt(1), await areceipt(1)]
        finally:
            await sync_to_async(connections.close_all)()

    first, second = asyncio.run(twice())

    assert first == second == {"order": Order.objects.get().pk}


def test_async_function_needs_a_lease() -> None:
    async def send() -> None: ...

    with pytest.raises(ImproperlyConfigured, match="lease=timedelta"):
        idempotent_task(key=str)(send)
    with pytest.raises(ImproperlyConfigured, match="lease=timedelta"):
        asyncio.run(arun_once("receipt:1", send))
