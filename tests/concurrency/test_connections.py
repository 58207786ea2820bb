"""Connections that are stale, refused, read-only or few."""

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.concurrency.conftest import AT_THE_SHOP, Connect
from tests.concurrency.leader import leading
from tests.concurrency.shop import inner, leased
from tests.support.client import call, new_key, post, told
from tests.support.threads import TIMEOUT, crew, second_connection, start, until
from tests.testapp.models import Order

pytestmark = AT_THE_SHOP


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
@pytest.mark.parametrize("word", ["201", "201 replayed"])
def test_request_on_a_stale_connection_is_served(word: str) -> None:
    key = new_key()
    if word == "201 replayed":
        post("/protected/", key)
    end_session_of(connection)

    assert post("/protected/", key).word == word


def be_idle_for_too_long(victim: BaseDatabaseWrapper) -> None:
    with victim.cursor() as cursor:
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = '50ms'")
        cursor.execute("SELECT pg_backend_pid()")
        pid = cursor.fetchone()[0]
    until(lambda: not is_alive(pid))


@pytest.mark.parametrize(
    "lose",
    [
        pytest.param(end_session_of, id="lost", marks=pytest.mark.direct),
        pytest.param(be_idle_for_too_long, id="given up"),
    ],
)
def test_claim_in_a_transaction_that_is_gone_is_refused(
    lose: Callable[[BaseDatabaseWrapper], None],
) -> None:
    """A new connection would lose what the transaction around it has written."""
    words = []
    with pytest.raises(OperationalError), transaction.atomic():  # noqa: PT012
        Order.objects.create()
        lose(connection)
        words.append(call(inner, new_key()).word)

    assert words == ["503 store-unavailable"]
    assert Order.objects.count() == 0


@pytest.mark.direct
def test_claim_that_the_projects_transaction_timeout_ends_is_refused(
    connect_with: Connect,
) -> None:
    """It ends the session, too: what can be said is that nothing was done."""
    with leading("/protected/") as leader:
        connect_with(options="-c transaction_timeout=200ms")
        answer = leader.copies(1)[0].result(TIMEOUT)
        leader.go_on()

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
def test_claim_without_a_database_is_refused_and_told_when_to_try_again() -> None:
    answer = call(inner, new_key())

    assert (answer.word, answer.headers["Retry-After"]) == (
        "503 store-unavailable",
        "1",
    )


@pytest.mark.direct
@pytest.mark.parametrize("view", [inner, leased], ids=["atomic", "leased"])
def test_claim_on_an_open_connection_to_a_server_that_is_gone_is_refused(
    view: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one finds out, and what is noticed at the rollback is no other error."""
    words = []
    with socket.socket() as bound, monkeypatch.context() as changed:
        end_session_of(connection)
        bound.bind(("127.0.0.1", 0))
        changed.setitem(connection.settings_dict, "PORT", bound.getsockname()[1])
        for _ in range(2):
            try:
                words.append(call(view, new_key()).word)
            except OperationalError:
                words.append("500")
        connection.close()

    assert words == ["503 store-unavailable"] * 2


@pytest.mark.direct
def test_claim_is_refused_until_the_database_can_be_written(
    connect_with: Connect,
) -> None:
    key = new_key()
    connect_with(options="-c default_transaction_read_only=on")
    assert call(inner, key).word == "503 store-unavailable"
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
    with leading(path) as slow:
        connection.close()
        copies = slow.copies(20)
        others = [start(slow.threads, call, inner, new_key()) for _ in range(5)]
        words = [
            told(each.result(TIMEOUT) for each in group) for group in (copies, others)
        ]
        slow.gate.open()

    assert words == [{"409 in-flight": 20}, {"201": 5}]
    assert slow.answer.result().word == "201"


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
