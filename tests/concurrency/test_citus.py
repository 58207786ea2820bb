"""What only a Citus can show: who commits when a server is killed, and what is bounded.

By hand, with `tox run -e citus`; each layout of our tables is another run.
"""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import Error, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpRequest, HttpResponse

from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import ClaimTimedOut
from django_idempotency.models import IdempotencyRecord
from django_idempotency.store import records
from django_idempotency.store.rows import claim_errors
from tests.integration.checks.messages import ids, live
from tests.support import citus
from tests.support.client import call, new_key
from tests.support.threads import TIMEOUT, crew, second_connection, start
from tests.support.values import OPERATION

pytestmark = [pytest.mark.citus, pytest.mark.django_db(transaction=True)]

COORDINATOR, WORKER = 0, 1
TABLE = IdempotencyRecord._meta.db_table
CLIENTS = 24
KILLS = 4


@pytest.fixture
def ledger() -> Iterator[None]:
    """A distributed table for what the view orders, beside the records."""
    ask("CREATE TABLE ledger (id uuid PRIMARY KEY, key text)")
    ask("SELECT create_distributed_table('ledger', 'id')")
    yield
    ask("DROP TABLE ledger")


@pytest.fixture
def plain_records() -> Iterator[None]:
    """The layout that loses: the negative control."""
    ask(f"SELECT undistribute_table('{TABLE}')")
    yield
    citus.arrange(connection)


@pytest.fixture
def slow_commits() -> Iterator[None]:
    """Widen the moment between the commits of two servers."""
    for setting in ("commit_delay = 100000", "commit_siblings = 0"):
        ask(f"ALTER SYSTEM SET {setting}")
    ask("SELECT pg_reload_conf()")
    yield
    ask("ALTER SYSTEM RESET ALL")
    ask("SELECT pg_reload_conf()")


def ask(statement: str) -> list[tuple[object, ...]]:
    coordinator = citus.servers().coordinator
    return citus.ask(coordinator, statement, database=citus.DATABASE)


@idempotent
def order(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        key = request.headers["Idempotency-Key"]
        cursor.execute("INSERT INTO ledger VALUES (%s, %s)", [uuid.uuid4(), key])
    return HttpResponse(status=201)


def order_until_answered(key: str) -> None:
    """As a client does: whatever is no answer is tried again."""
    for _ in range(600):
        with suppress(Error):
            if call(order, key).status == 201:
                return
        connections.close_all()
        time.sleep(0.05)
    raise AssertionError(f"{key} is never answered")


def orders_while_one_is_killed(number: int) -> Counter[object]:
    """Return how often each key was ordered, with kills in the middle of it."""
    keys: list[str] = []
    is_over = threading.Event()

    def go_on() -> None:
        while not is_over.is_set():
            key = new_key()
            keys.append(key)
            order_until_answered(key)

    connections.close_all()
    with crew() as threads:
        clients = [start(threads, go_on) for _ in range(CLIENTS)]
        for _ in range(KILLS):
            time.sleep(2)
            citus.servers().kill(number)
            citus.servers().start_again(number)
        time.sleep(1)
        is_over.set()
        for client in clients:
            client.result(4 * TIMEOUT)
    ask("SELECT recover_prepared_transactions()")
    found = Counter(key for (key,) in ask("SELECT key FROM ledger"))
    # Each was answered, in the end.
    return Counter({key: found[key] for key in keys})


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("ledger", "slow_commits")
@pytest.mark.parametrize("number", [COORDINATOR, WORKER])
def test_server_that_is_killed_leaves_one_order_for_each_key(number: int) -> None:
    orders = orders_while_one_is_killed(number)

    assert len(orders) > CLIENTS
    assert set(orders.values()) == {1}


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("ledger", "plain_records", "slow_commits")
def test_plain_records_beside_distributed_orders_are_ordered_twice() -> None:
    """The negative control, and what check E061 says."""
    assert "E061" in ids(live())

    orders = orders_while_one_is_killed(COORDINATOR)

    assert max(orders.values()) > 1


@pytest.mark.parametrize("wait", [timedelta(0), timedelta(milliseconds=400)])
def test_wait_for_a_row_on_another_server_is_bounded(wait: timedelta) -> None:
    with second_connection() as other:
        other.set_autocommit(False)
        claim_in(other)
        began = time.monotonic()
        with (
            pytest.raises(ClaimTimedOut),
            claim_errors("default"),
            transaction.atomic(),
        ):
            records.claim(OPERATION, wait=wait)
        took = time.monotonic() - began
        other.rollback()

    assert wait.total_seconds() <= took < wait.total_seconds() + TIMEOUT / 6
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)


def claim_in(session: BaseDatabaseWrapper) -> None:
    with session.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TABLE} (id, scope, key, method, path, fingerprint, state,"  # noqa: S608
            " effects, attempts, last_error, history, replays, created_at, expires_at)"
            " VALUES (%s, '', '', '', '', '', 'in_flight', '{}', 1, '', '[]', 0, now(),"
            " now())",
            [OPERATION.record_id],
        )


def test_own_tables_that_citus_knows_have_nothing_to_be_said(
    settings: Any,
) -> None:
    assert not {"E061", "E062", "W060", "W063", "W064"} & {*ids(live())}
    settings.IDEMPOTENCY_DISTRIBUTED = {}
    assert "E062" in ids(live())
