"""Behind PgBouncer in transaction mode: nothing of one client's is left to the next.

It has few connections to the server here, so that the clients have to share them.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from django.db import connection, transaction

from tests.concurrency.servers import sessions_in_a_transaction
from tests.concurrency.shop import leased, refused
from tests.support import pgbouncer
from tests.support.client import Answer, call, new_key, post, told
from tests.support.threads import TIMEOUT, all_at_once, until
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.behind_pgbouncer,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.concurrency.shop"),
]

SERVER_CONNECTIONS = 4
CLIENTS = 8

LOCK_TIMEOUT = "12345ms"
"""The project's own."""


@pytest.fixture(autouse=True)
def _few_server_connections(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    # As the documentation tells to set time-outs behind a pooler; it is in force on
    # server connections that are made later.
    role = f'ALTER ROLE postgres IN DATABASE "{connection.settings_dict["NAME"]}"'
    with connection.cursor() as cursor:
        cursor.execute(f"{role} SET lock_timeout = '{LOCK_TIMEOUT}'")
        cursor.execute("SELECT inet_server_port()")
        server_port = cursor.fetchone()[0]
    program = os.environ[pgbouncer.VARIABLE]
    few = pgbouncer.pgbouncer(
        program, server_port=server_port, pool_size=SERVER_CONNECTIONS
    )
    with few as port, monkeypatch.context() as changed:
        connection.close()
        changed.setitem(connection.settings_dict, "PORT", port)
        yield
        connection.close()
    with connection.cursor() as cursor:
        cursor.execute(f"{role} RESET lock_timeout")


def mixed_requests(hot_keys: list[str]) -> list[Answer]:
    """What one client sends: 25 requests of all kinds."""
    keys = [new_key() for _ in range(10)]
    leased_key, released_key = new_key(), new_key()
    return [
        *(post("/protected/", key) for key in keys),
        *(post("/protected/", key) for key in keys[:5]),
        *(post("/protected/", key, amount=2) for key in keys[5:7]),
        *(call(leased, leased_key) for _ in range(2)),
        *(post("/protected/", key) for key in hot_keys),
        *(call(refused, released_key) for _ in range(3)),
        post("/protected/"),
    ]


def mixed_traffic() -> list[Answer]:
    hot_keys = [new_key() for _ in range(2)]
    sent = all_at_once(CLIENTS, lambda _: mixed_requests(hot_keys))
    return [answer for each in sent for answer in each]


def lock_timeouts() -> set[str]:
    """Ask each server connection, by holding all of them at once."""
    together = threading.Barrier(SERVER_CONNECTIONS)

    def ask(_: int) -> tuple[int, str]:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid(), current_setting('lock_timeout')")
            row: tuple[int, str] = cursor.fetchone()
            together.wait(TIMEOUT)
        return row

    found = dict(all_at_once(SERVER_CONNECTIONS, ask))
    assert len(found) == SERVER_CONNECTIONS
    return set(found.values())


def advisory_locks() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks"
            " JOIN pg_database ON pg_database.oid = pg_locks.database"
            " WHERE locktype = 'advisory' AND datname = current_database()"
        )
        count: int = cursor.fetchone()[0]
        return count


def test_two_hundred_mixed_requests_are_answered_as_on_a_direct_connection() -> None:
    assert told(mixed_traffic()) == {  # FR-075
        "201": 10 * CLIENTS + CLIENTS + 2,
        "201 replayed": 5 * CLIENTS + CLIENTS + 2 * (CLIENTS - 1),
        "422 key-reused": 2 * CLIENTS,
        "503": 3 * CLIENTS,
        "400 key-missing": CLIENTS,
    }
    assert Order.objects.count() == 10 * CLIENTS + CLIENTS + 2
    assert advisory_locks() == 0
    until(lambda: not sessions_in_a_transaction())


def test_lock_of_a_session_would_be_seen() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(1)")

    assert advisory_locks() == 1


def test_transaction_that_is_left_open_would_be_seen() -> None:
    def seen(number: int) -> int:
        """One client is in a transaction while the other looks."""
        with transaction.atomic() if number else nullcontext():
            Order.objects.count()
            together.wait(TIMEOUT)
            found = 0 if number else sessions_in_a_transaction()
            together.wait(TIMEOUT)
        return found

    together = threading.Barrier(2)
    assert all_at_once(2, seen) == [1, 0]


def test_no_client_gets_the_wait_of_another() -> None:
    """FR-075: the limits are the role's own in each view, and at the end."""
    answers = mixed_traffic()

    in_views = {
        answer.json["limits"]
        for answer in answers
        if answer.status == 201 and "limits" in answer.json
    }
    assert in_views == {f"{LOCK_TIMEOUT} 0"}  # and no `statement_timeout`
    assert lock_timeouts() == {LOCK_TIMEOUT}


def test_setting_of_a_session_would_be_seen() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '77ms'")

    assert "77ms" in lock_timeouts()
