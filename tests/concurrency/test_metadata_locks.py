"""MariaDB: an ALTER TABLE that queues behind a long reader lets nobody wait for ever."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.engine import record_row
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.webhooks import Event, providers, webhook
from tests.support.client import new_key, post
from tests.support.deliveries import SECRET, deliver, stripe
from tests.support.records import change
from tests.support.threads import TIMEOUT, crew, second_connection, start, until
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls(__name__),
]

WAITS = {"none": timedelta(0), "short": timedelta(milliseconds=300)}
LEASE = timedelta(seconds=1)
READER_SECONDS = 6.0
SLACK_SECONDS = 2.5
"""For a machine that has other things to do; MariaDB's own limit is a day."""


@contextmanager
def altering(model: Any) -> Iterator[None]:
    """A report reads the table in a long transaction, and a migration waits for it."""
    table = model._meta.db_table
    with crew() as threads, second_connection() as reader:
        reader.set_autocommit(False)
        execute(reader, f"SELECT count(*) FROM {table}")  # noqa: S608
        migration = start(threads, execute, connection, f"ALTER TABLE {table} FORCE")
        # Else a test that fails would never end.
        end = threading.Timer(READER_SECONDS, reader.connection.rollback)
        end.start()
        try:
            until(is_queued)
            yield
        finally:
            end.cancel()
            reader.rollback()
        migration.result(TIMEOUT)


def execute(session: Any, sql: str) -> None:
    with session.cursor() as cursor:
        cursor.execute(sql)


def is_queued() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM information_schema.processlist WHERE db = database()"
            " AND state = 'Waiting for table metadata lock'"
        )
        return bool(cursor.fetchone())


class Scene:
    def __init__(self) -> None:
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None


scene = Scene()


@pytest.fixture(autouse=True)
def _fresh_scene() -> None:
    scene.__init__()  # type: ignore[misc]


def place(request: Any) -> HttpResponse:
    scene.before()
    request.idempotency.write("order", lambda: Order.objects.create().pk)
    scene.after()
    return HttpResponse(status=201)


def receiver(name: str, wait: timedelta) -> Any:
    shortest = timedelta(milliseconds=1)  # an acknowledgement takes some time
    profile = replace(providers.STRIPE, acknowledge_within=2 * wait or shortest)
    is_stored = name == "inbox"

    @webhook(
        profile, secrets=SECRET, endpoint=f"altered-{name}-{wait}", inbox=is_stored
    )
    def handle(event: Event) -> None:
        Order.objects.create()

    return handle


urlpatterns = [
    path(f"{shape}/{name}/", view)
    for name, wait in WAITS.items()
    for shape, view in {
        "atomic": idempotent(wait=wait)(place),
        "leased": idempotent(wait=wait, lease=LEASE)(place),
        "inline": receiver("inline", wait),
        "inbox": receiver("inbox", wait),
    }.items()
]

RECORDED, DELIVERED = ["atomic", "leased"], ["inline", "inbox"]


def ask(shape: str, name: str, key: str) -> int:
    address = f"/{shape}/{name}/"
    if shape in DELIVERED:
        status: int = deliver(address, stripe(f"evt_{key}")).status_code
        return status
    return post(address, key).status


def seconds_for(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


CASES = [
    *((shape, before) for shape in RECORDED for before in ("new", "kept", "released")),
    *((shape, "kept elsewhere") for shape in RECORDED),
    *((shape, before) for shape in DELIVERED for before in ("new", "kept")),
]


@pytest.mark.parametrize("name", WAITS)
@pytest.mark.parametrize(("shape", "before"), CASES)
def test_request_waits_no_longer_than_it_may(
    shape: str, name: str, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, statuses = new_key(), []
    if before != "new":
        assert ask(shape, name, key) < 300
    if before == "kept elsewhere":  # then it is claimed first, and not looked for
        monkeypatch.setattr(record_row, "answered", record_row.RecentIds(1))
    if before == "released":
        change(state="released")
    orders = Order.objects.count()

    with altering(IdempotencyRecord if shape in RECORDED else ProcessedEvent):
        seconds = seconds_for(lambda: statuses.append(ask(shape, name, key)))
        assert Order.objects.count() == orders

    assert seconds < WAITS[name].total_seconds() + SLACK_SECONDS
    assert statuses[0] in (409, 503)
    assert ask(shape, name, key) < 300


@pytest.mark.parametrize("fails", [False, True])
def test_transaction_ends_at_once(fails: bool) -> None:
    """It has used the table since its claim, and the note of a failure is left out."""
    key, statuses = new_key(), []
    with ExitStack() as stack:

        def begin() -> None:
            stack.enter_context(altering(IdempotencyRecord))
            if fails:
                raise ValueError

        scene.before = begin
        seconds = seconds_for(lambda: statuses.append(ask("atomic", "none", key)))
    scene.before = lambda: None

    assert seconds < SLACK_SECONDS
    assert statuses == [500 if fails else 201]
    assert post("/atomic/none/", key).word == ("201" if fails else "201 replayed")


@pytest.mark.parametrize("when", ["before", "after"])
def test_owner_of_a_lease_waits_no_longer_than_for_its_length(when: str) -> None:
    """It gives up the step, or the end; a retry goes on where it was."""
    key, statuses = new_key(), []
    with ExitStack() as stack:

        def begin() -> None:
            stack.enter_context(altering(IdempotencyRecord))
            setattr(scene, when, lambda: None)

        setattr(scene, when, begin)
        seconds = seconds_for(lambda: statuses.append(ask("leased", "none", key)))
    until(lambda: ask("leased", "none", key) == 201)

    # Once for what it writes, and once to say that it ends.
    assert seconds < 2 * LEASE.total_seconds() + SLACK_SECONDS
    assert statuses == [500]
    assert Order.objects.count() == 1
