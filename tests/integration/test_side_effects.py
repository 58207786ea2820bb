"""Callbacks after the commit, calls to other parties, and signals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse
from django.test import TestCase

from django_idempotency import signals
from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from tests.concurrency.answers import call, new_key
from tests.concurrency.storm import second_connection
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db(transaction=True)

View = Callable[..., Any]


class Failure(Exception):
    """What a view raises."""


def view_that(*acts: Callable[[], object]) -> View:
    """A view whose n-th execution writes an order and then acts so."""
    remaining = list(acts)

    @idempotent
    def view(request: HttpRequest) -> HttpResponse:
        Order.objects.create()
        if remaining:
            remaining.pop(0)()
        return HttpResponse(status=201)

    return view


def fail() -> None:
    raise Failure


# Callbacks after the commit


def mailing(mails: list[str], *, failures: int = 0) -> View:
    failing = [True] * failures

    @idempotent
    def view(request: HttpRequest) -> HttpResponse:
        Order.objects.create()
        transaction.on_commit(lambda: mails.append("mail"))
        if failing:
            failing.pop()
            raise Failure
        return HttpResponse(status=201)

    return view


def test_callback_runs_once_for_a_first_call_and_its_repeat() -> None:  # FR-023
    mails: list[str] = []
    view, key = mailing(mails), new_key()
    for _ in range(2):
        call(view, key)

    assert mails == ["mail"]


def test_callback_does_not_run_after_a_rollback() -> None:  # FR-023
    mails: list[str] = []
    with pytest.raises(Failure):
        call(mailing(mails, failures=1), new_key())

    assert mails == []


def test_callback_does_not_run_when_the_transaction_around_is_rolled_back() -> None:
    mails: list[str] = []  # FR-024
    with transaction.atomic():
        call(mailing(mails), new_key())
        transaction.set_rollback(True)

    assert mails == []


def seen_by_another_session() -> tuple[int, list[str]]:
    with second_connection() as other, other.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM testapp_order")
        orders = cursor.fetchone()[0]
        cursor.execute(f"SELECT state FROM {IdempotencyRecord._meta.db_table}")  # noqa: S608
        return orders, [row[0] for row in cursor.fetchall()]


def test_callback_runs_when_everybody_sees_order_and_answer() -> None:  # FR-023
    seen: list[tuple[int, list[str]]] = []

    def look() -> None:
        seen.append(seen_by_another_session())

    call(view_that(lambda: transaction.on_commit(look)), new_key())

    assert seen == [(1, ["kept"])]


def test_failing_callback_leaves_the_answer_kept() -> None:
    view, key = view_that(lambda: transaction.on_commit(fail)), new_key()
    with pytest.raises(Failure):
        call(view, key)

    assert call(view, key).word == "201 replayed"
    assert Order.objects.count() == 1


@pytest.mark.django_db
def test_callback_in_a_test_case_needs_djangos_helper() -> None:  # FR-106
    mails: list[str] = []
    with TestCase.captureOnCommitCallbacks(execute=True):
        call(mailing(mails), new_key())

    assert mails == ["mail"]


# Calls to other parties


class Gateway:
    """Charges once per key, and remembers every call."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    @property
    def charges(self) -> int:
        return len(set(self.calls))

    def charge(self, key: str) -> None:
        self.calls.append(key)


def charging(gateway: Gateway, *, failures: int = 0, **options: Any) -> View:
    failing = [True] * failures

    @idempotent(**options)
    def view(request: IdempotentRequest) -> HttpResponse:
        Order.objects.create()
        gateway.charge(request.idempotency.key_for("charge"))
        if failing:
            failing.pop()
            raise TimeoutError
        return HttpResponse(status=201)

    return view


def test_retry_after_a_failure_charges_once() -> None:  # FR-025, FR-026
    gateway, key = Gateway(), new_key()
    view = charging(gateway, failures=1)
    with pytest.raises(TimeoutError):
        call(view, key)

    assert call(view, key).word == "201"
    assert len(gateway.calls) == 2
    assert (gateway.charges, Order.objects.count()) == (1, 1)


def test_gateway_time_out_that_is_answered_is_not_kept() -> None:  # FR-026
    gateway, key = Gateway(), new_key()
    answers = [HttpResponse(status=504), HttpResponse(status=201)]

    @idempotent
    def view(request: IdempotentRequest) -> HttpResponse:
        Order.objects.create()
        gateway.charge(request.idempotency.key_for("charge"))
        return answers.pop(0)

    assert [call(view, key).word for _ in range(2)] == ["504", "201"]
    assert (gateway.charges, Order.objects.count()) == (1, 1)


def test_repeat_does_not_call_the_gateway() -> None:
    gateway, key = Gateway(), new_key()
    view = charging(gateway)
    for _ in range(2):
        call(view, key)

    assert len(gateway.calls) == 1


def test_excluded_field_does_not_change_the_derived_key() -> None:  # FR-027
    gateway, key = Gateway(), new_key()
    view = charging(gateway, failures=1, exclude=("amount",))
    with pytest.raises(TimeoutError):
        call(view, key, amount=1)
    call(view, key, amount=2)

    assert gateway.charges == 1


def test_rotation_of_the_secret_key_does_not_change_the_derived_key(
    settings: Any,
) -> None:
    gateway, key = Gateway(), new_key()  # FR-027
    view = charging(gateway, failures=1)
    with pytest.raises(TimeoutError):
        call(view, key)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "rotated"  # noqa: S105 - of this test
    call(view, key)

    assert gateway.charges == 1


def test_another_key_gives_another_derived_key() -> None:  # FR-027
    gateway = Gateway()
    view = charging(gateway)
    for _ in range(2):
        call(view, new_key())

    assert gateway.charges == 2


# Signals


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


def test_signals_of_first_call_repeat_and_mismatch(heard: list[str]) -> None:
    key = new_key()
    for amount in (1, 1, 2):
        call(view_that(), key, amount=amount)

    assert heard == ["claimed", "kept", "replayed", "mismatched"]


def test_signals_of_a_failure(heard: list[str]) -> None:
    with pytest.raises(Failure):
        call(view_that(fail), new_key())

    assert heard == ["claimed", "released"]


def test_signals_of_a_claim_in_flight(heard: list[str]) -> None:
    key = new_key()
    call(view_that(), key)
    IdempotencyRecord.objects.update(state="in_flight")
    heard.clear()
    call(view_that(), key)

    assert heard == ["in_flight"]


def test_kept_waits_for_the_commit_around(heard: list[str]) -> None:
    with transaction.atomic():
        call(view_that(), new_key())
        assert "kept" not in heard

    assert heard == ["claimed", "kept"]


def test_kept_is_never_sent_when_the_transaction_around_is_rolled_back(
    heard: list[str],
) -> None:
    with transaction.atomic():
        call(view_that(), new_key())
        transaction.set_rollback(True)

    assert "kept" not in heard


def test_failing_callback_after_the_commit_is_no_release(heard: list[str]) -> None:
    with pytest.raises(Failure):
        call(view_that(lambda: transaction.on_commit(fail)), new_key())

    assert heard == ["claimed", "kept"]


def test_kept_is_sent_when_everybody_sees_the_answer() -> None:
    seen: list[tuple[int, list[str]]] = []

    def look(**kwargs: Any) -> None:
        seen.append(seen_by_another_session())

    signals.kept.connect(look)
    call(view_that(), new_key())
    signals.kept.disconnect(look)

    assert seen == [(1, ["kept"])]


@pytest.mark.parametrize("name", ["claimed", "kept", "replayed"])
def test_failing_receiver_does_no_harm(name: str) -> None:
    def receive(**kwargs: Any) -> None:
        raise Failure

    signal: Signal = getattr(signals, name)
    key = new_key()
    signal.connect(receive)
    words = [call(view_that(), key).word for _ in range(2)]
    signal.disconnect(receive)

    assert words == ["201", "201 replayed"]


@pytest.mark.parametrize("name", ["claimed", "released"])
def test_failing_receiver_does_not_replace_the_views_error(name: str) -> None:
    def receive(**kwargs: Any) -> None:
        raise ZeroDivisionError

    signal: Signal = getattr(signals, name)
    signal.connect(receive)
    with pytest.raises(Failure):
        call(view_that(fail), new_key())
    signal.disconnect(receive)


def test_receiver_may_use_the_database() -> None:
    def receive(**kwargs: Any) -> None:
        assert not connection.in_atomic_block
        Order.objects.create()

    signals.kept.connect(receive)
    call(view_that(), new_key())
    signals.kept.disconnect(receive)

    assert Order.objects.count() == 2
