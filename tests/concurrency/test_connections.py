"""Connections that are stale, refused, read-only or few."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from django.db import OperationalError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.concurrency.answers import call, new_key, post, told
from tests.concurrency.conftest import Connect
from tests.concurrency.shop import inner
from tests.concurrency.storm import (
    AT_THE_GATE,
    TIMEOUT,
    crew,
    gate_closed,
    second_connection,
    start,
    until,
    until_waiting,
)
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.concurrency,
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.concurrency.shop"),
]


def end_session_of(victim: BaseDatabaseWrapper) -> None:
    """Let the server end the session, and leave the client in the belief it lives."""
    with victim.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    with second_connection() as other, other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    until(lambda: not is_alive(pid))


def is_alive(pid: int) -> bool:
    with second_connection() as other, other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid])
        return cursor.fetchone() is not None


@pytest.mark.direct
def test_request_on_a_stale_connection_is_served() -> None:
    end_session_of(connection)

    assert post("/protected/", new_key()).word == "201"


@pytest.mark.direct
def test_repeat_on_a_stale_connection_is_replayed() -> None:
    key = new_key()
    post("/protected/", key)
    end_session_of(connection)

    assert post("/protected/", key).word == "201 replayed"


@pytest.mark.direct
def test_claim_in_a_lost_transaction_is_refused() -> None:
    """A new connection would lose what the transaction around it has written."""
    words = []

    @transaction.atomic
    def lose_the_connection() -> None:
        Order.objects.create()
        end_session_of(connection)
        words.append(call(inner, new_key()).word)

    with pytest.raises(OperationalError):
        lose_the_connection()

    assert words == ["503 store-unavailable"]
    assert Order.objects.count() == 0


def test_claim_in_a_transaction_that_the_server_gave_up_is_refused() -> None:
    words = []

    @transaction.atomic
    def be_idle_for_too_long() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = '50ms'")
            cursor.execute("SELECT pg_backend_pid()")
            pid = cursor.fetchone()[0]
        until(lambda: not is_alive(pid))
        words.append(call(inner, new_key()).word)

    with pytest.raises(OperationalError):
        be_idle_for_too_long()

    assert words == ["503 store-unavailable"]


@pytest.mark.direct
def test_claim_that_the_projects_transaction_timeout_ends_is_refused(
    connect_with: Connect,
) -> None:
    """It ends the session, too: what can be said is that nothing was done."""
    key = new_key()
    with gate_closed() as gate, crew() as threads:
        leader = start(threads, post, "/protected/", key)
        until_waiting(1, AT_THE_GATE)
        connect_with(options="-c transaction_timeout=200ms")
        answer = start(threads, post, "/protected/", key).result(TIMEOUT)
        gate.open()
        leader.result(TIMEOUT)

    assert answer.word == "503 store-unavailable"


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody listens where the database should be."""
    connection.close()
    with socket.socket() as bound, monkeypatch.context() as changed:
        bound.bind(("127.0.0.1", 0))
        changed.setitem(connection.settings_dict, "PORT", bound.getsockname()[1])
        yield
        connection.close()


@pytest.mark.usefixtures("unreachable")
def test_claim_without_a_database_is_refused() -> None:
    assert call(inner, new_key()).word == "503 store-unavailable"


@pytest.mark.usefixtures("unreachable")
def test_client_is_told_when_to_try_again() -> None:
    assert call(inner, new_key()).headers["Retry-After"] == "1"


@pytest.mark.direct
def test_claim_in_a_read_only_database_is_refused(connect_with: Connect) -> None:
    connect_with(options="-c default_transaction_read_only=on")

    assert call(inner, new_key()).word == "503 store-unavailable"


@pytest.mark.direct
def test_claim_is_tried_again_when_the_database_can_be_written(
    connect_with: Connect,
) -> None:
    key = new_key()
    connect_with(options="-c default_transaction_read_only=on")
    call(inner, key)
    connect_with()

    assert call(inner, key).word == "201"


@pytest.mark.usefixtures("pool_of_five")
@pytest.mark.direct
def test_request_on_a_stale_connection_of_the_pool_is_served() -> None:
    end_session_of(connection)
    connection.close()  # back into the pool

    assert call(inner, new_key()).word == "201"


@pytest.mark.parametrize("path", ["/impatient/", "/hasty/"])
@pytest.mark.usefixtures("pool_of_five")
def test_waiting_copies_do_not_keep_the_pool_from_others(path: str) -> None:
    """FR-082: while one request is slow, others are served and its copies sent away.

    A waiting copy has a connection, so that the policy's wait is also how long others
    may have to wait for theirs.
    """
    key = new_key()
    with gate_closed() as gate, crew() as threads:
        slow = start(threads, post, path, key)
        until_waiting(1, AT_THE_GATE)
        connection.close()
        copies = [start(threads, post, path, key) for _ in range(20)]
        others = [start(threads, call, inner, new_key()) for _ in range(5)]
        words = [
            told(each.result(TIMEOUT) for each in group) for group in (copies, others)
        ]
        gate.open()

    assert words == [{"409 in-flight": 20}, {"201": 5}]
    assert slow.result().word == "201"


def test_time_spent_on_getting_a_connection_is_no_wait_for_a_leader(
    connect_with: Connect,
) -> None:
    """The request is the only one of its key: nobody is in flight."""
    connect_with(pool={"min_size": 1, "max_size": 1, "timeout": TIMEOUT})
    connection.ensure_connection()  # takes the only one
    with crew() as threads:
        first = start(threads, post, "/hasty/", new_key())
        # Longer than the wait, and than what a slow database is allowed.
        time.sleep(1.3)
        connection.close()
    connection.close_pool()  # type: ignore[attr-defined]

    assert first.result().word == "201"
