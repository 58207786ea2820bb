"""Callbacks after the commit, calls to other parties, and signals."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, transaction
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse
from django.test import TestCase

from django_idempotency import signals
from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import CallRefused, OutcomeUnknown, StoreUnavailable
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from django_idempotency.tasks import current_operation, run_once
from tests.support.cases import cases
from tests.support.client import call, new_key
from tests.support.threads import second_connection
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db(transaction=True)

View = Callable[..., Any]

MINUTE = timedelta(minutes=1)


class Failure(Exception):
    """What a view raises."""


def then(act: Callable[[], object], *, failures: int = 0, **options: Any) -> View:
    """A view that writes an order and then acts; its first executions raise."""
    failing = [True] * failures

    @idempotent(**options)
    def view(request: HttpRequest) -> HttpResponse:
        Order.objects.create()
        act()
        if failing:
            failing.pop()
            raise Failure
        return HttpResponse(status=201)

    return view


def fail() -> None:
    raise Failure


# Callbacks after the commit


@pytest.fixture
def mails() -> list[str]:
    return []


def mailing(mails: list[str], *, failures: int = 0) -> View:
    def mail() -> None:
        transaction.on_commit(lambda: mails.append("mail"))

    return then(mail, failures=failures)


def test_callback_runs_once_per_commit(mails: list[str]) -> None:
    """FR-023: neither after a rollback nor for a repeat."""
    view, key = mailing(mails, failures=1), new_key()
    with pytest.raises(Failure):
        call(view, key)
    assert mails == []

    for _ in range(2):
        call(view, key)
    assert mails == ["mail"]


def test_callback_does_not_run_when_the_transaction_around_is_rolled_back(
    mails: list[str],
) -> None:
    with transaction.atomic():  # FR-024
        call(mailing(mails), new_key())
        transaction.set_rollback(True)

    assert mails == []


def test_callback_runs_when_everybody_sees_order_and_answer() -> None:
    """FR-023."""
    seen: list[int | str] = []

    def look() -> None:
        with second_connection() as other, other.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM testapp_order")
            seen.extend(cursor.fetchone())
            cursor.execute(f"SELECT state FROM {IdempotencyRecord._meta.db_table}")  # noqa: S608
            seen.extend(cursor.fetchone())

    call(then(lambda: transaction.on_commit(look)), new_key())

    assert seen == [1, "kept"]


def test_failing_callback_leaves_the_answer_kept(heard: list[str]) -> None:
    view, key = then(lambda: transaction.on_commit(fail)), new_key()
    with pytest.raises(Failure):
        call(view, key)

    assert heard == ["claimed", "kept"]
    assert call(view, key).word == "201 replayed"
    assert Order.objects.count() == 1


# What is raised by something that a view or a callback asks for, and isn't its own


class Declined(Exception):
    """A card is declined."""


def be_refused() -> None:
    def decline(key: str) -> None:
        raise Declined

    current_operation().call("charge", decline, refused=Declined)


def claim_in_vain() -> None:
    """As where a replica has become the primary's place meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
        try:
            run_once("receipt:1", fail)
        finally:
            cursor.execute("RESET default_transaction_read_only")


def afterwards(act: Callable[[], object]) -> Callable[[], object]:
    return lambda: transaction.on_commit(act)


@pytest.mark.postgresql
@pytest.mark.parametrize("has_key", [True, False], ids=["key", "no key"])
@cases(
    "act, options, error",
    {
        "refused in a callback": (afterwards(be_refused), {}, CallRefused),
        "no claim in a callback": (afterwards(claim_in_vain), {}, StoreUnavailable),
        "no claim in a lease": (claim_in_vain, {"lease": MINUTE}, StoreUnavailable),
    },
)
def test_who_has_ordered_is_not_told_that_nothing_was_done(
    act: Callable[[], object], options: Any, error: type[Exception], has_key: bool
) -> None:
    """With a new key, as it is told after a refusal, the client would order twice."""
    view = then(act, required=False, **options)

    with pytest.raises(error):
        call(view, new_key() if has_key else None)

    assert Order.objects.count() == 1


@pytest.mark.parametrize("options", [{}, {"lease": MINUTE}], ids=["atomic", "leased"])
def test_operation_is_not_told_to_be_held_where_its_task_is(
    options: Any, heard: list[str]
) -> None:
    """A person would look for it in vain: its key is free."""
    with suppress(Failure):
        run_once("receipt:1", fail)
    IdempotencyRecord.objects.update(state="held")
    view = then(lambda: run_once("receipt:1", fail), **options)

    with pytest.raises(OutcomeUnknown):
        call(view, new_key())

    assert heard.count("held") == 1
    states = IdempotencyRecord.objects.order_by("state").values_list("state", flat=True)
    assert list(states) == ["held", "released"]


@pytest.mark.postgresql
def test_who_has_ordered_in_an_async_view_is_not_told_so_either() -> None:
    @idempotent(lease=MINUTE)
    async def view(request: IdempotentRequest) -> HttpResponse:
        await sync_to_async(Order.objects.create)()
        await sync_to_async(claim_in_vain)()
        return HttpResponse(status=201)

    with pytest.raises(StoreUnavailable):
        call(async_to_sync(view), new_key())


@pytest.mark.django_db
def test_callback_in_a_test_case_needs_djangos_helper(mails: list[str]) -> None:
    with TestCase.captureOnCommitCallbacks(execute=True):  # FR-106
        call(mailing(mails), new_key())

    assert mails == ["mail"]


# Calls to other parties


def charging(keys: list[str], *answers: int | type[Exception], **options: Any) -> View:
    """A view that has a gateway charge under its key, and ends so, time after time."""
    remaining = list(answers)

    @idempotent(**options)
    def view(request: IdempotentRequest) -> HttpResponse:
        Order.objects.create()
        keys.append(request.idempotency.key_for("charge"))
        answer = remaining.pop(0)
        if isinstance(answer, int):
            return HttpResponse(status=answer)
        raise answer

    return view


def test_gateway_is_called_with_one_key_until_there_is_an_answer_to_keep() -> None:
    """FR-025, FR-026: neither an error nor a gateway's time-out is kept."""
    keys: list[str] = []
    view, key = charging(keys, TimeoutError, 504, 201), new_key()
    with pytest.raises(TimeoutError):
        call(view, key)

    assert [call(view, key).word for _ in range(3)] == ["504", "201", "201 replayed"]
    assert (len(keys), len(set(keys)), Order.objects.count()) == (3, 1, 1)


def test_excluded_field_does_not_change_the_derived_key() -> None:
    """FR-027."""
    keys: list[str] = []
    view, key = charging(keys, 503, 201, exclude=("amount",)), new_key()
    for amount in (1, 2):
        call(view, key, amount=amount)

    assert (len(keys), len(set(keys))) == (2, 1)


# Signals; upkeep/test_logging_and_signals shows which are sent when


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """The names of the signals, as they are sent."""
    names: list[str] = []

    def hear(name: str, **kwargs: Any) -> None:
        names.append(name)

    receivers: list[tuple[Signal, Any]] = []
    for name in signals.__all__:
        signal, receiver = getattr(signals, name), partial(hear, name)
        signal.connect(receiver)
        receivers.append((signal, receiver))
    yield names
    for signal, receiver in receivers:
        signal.disconnect(receiver)


def test_kept_waits_for_the_commit_around(heard: list[str]) -> None:
    with transaction.atomic():
        call(then(lambda: None), new_key())
        assert "kept" not in heard

    assert heard == ["claimed", "kept"]


def test_kept_is_never_sent_when_the_transaction_around_is_rolled_back(
    heard: list[str],
) -> None:
    with transaction.atomic():
        call(then(lambda: None), new_key())
        transaction.set_rollback(True)

    assert "kept" not in heard


@pytest.mark.parametrize("name", ["claimed", "released"])
def test_failing_receiver_does_not_replace_the_views_error(name: str) -> None:
    def receive(**kwargs: Any) -> None:
        raise ZeroDivisionError

    signal: Signal = getattr(signals, name)
    signal.connect(receive)
    with pytest.raises(Failure):
        call(then(fail), new_key())
    signal.disconnect(receive)
