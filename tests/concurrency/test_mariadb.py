"""MariaDB: InnoDB's locks, snapshots and deadlocks, at each of its levels of isolation."""

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError
from django.http import HttpResponse
from django.utils import timezone

from django_idempotency.decorators import idempotent
from django_idempotency.engine import record_row
from django_idempotency.exceptions import BrokenTransaction
from django_idempotency.fields import UtcNow
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.store import dialects, due
from django_idempotency.store.dialects import dialect_of
from django_idempotency.store.records import note_failure
from tests.concurrency.conftest import Connect
from tests.concurrency.test_purge_under_traffic import (
    make_expired,
    purge,
    require_two_purges_to_share,
    words_during_a_purge,
)
from tests.support.client import Answer, call, new_key, told
from tests.support.innodb import another, be_the_victim
from tests.support.records import expire
from tests.support.threads import (
    TIMEOUT,
    all_at_once,
    crew,
    second_connection,
    start,
    until,
)
from tests.support.values import OPERATION
from tests.testapp.models import Order

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(transaction=True)]

NEW_ORDER = "INSERT INTO testapp_order (reference, amount) VALUES ('', 0)"
RECORDS = IdempotencyRecord._meta.db_table

LEVELS = ["read committed", "repeatable read", "serializable"]


@pytest.fixture(autouse=True, params=LEVELS)
def level(request: pytest.FixtureRequest, connect_with: Connect) -> str:
    connect_with(isolation_level=request.param)
    level: str = request.param
    return level


class Stage:
    """A gate in the view, for the threads of this process."""

    def __init__(self) -> None:
        self.failures: deque[Exception] = deque()
        self.is_open = threading.Event()
        self.is_open.set()
        self.entered = 0

    @contextmanager
    def closed(self) -> Iterator[None]:
        self.is_open.clear()
        try:
            yield
        finally:
            self.is_open.set()

    def play(self) -> None:
        Order.objects.create()
        self.entered += 1
        assert self.is_open.wait(TIMEOUT)
        with suppress(IndexError):
            raise self.failures.popleft()


@pytest.fixture(autouse=True)
def _new_stage() -> None:
    stage.__init__()  # type: ignore[misc]


stage = Stage()


def place(request: IdempotentRequest) -> HttpResponse:
    stage.play()
    return HttpResponse(status=201)


order = idempotent(place)
impatient = idempotent(wait=timedelta(0))(place)
hasty = idempotent(wait=timedelta(milliseconds=300))(place)


def send(key: str, view: Any = order) -> Answer:
    """As a server would: what the view raises is answered with 500."""
    try:
        return call(view, key)
    except ValueError:
        return Answer(status=500, headers={}, body=b"")


def until_inside(count: int) -> None:
    until(lambda: stage.entered >= count)


def until_waiting(count: int) -> None:
    """Return when so many transactions of this database wait for a lock."""
    until(lambda: waiting() >= count)


def waiting() -> int:
    # The server makes this table anew only if nobody has read it for 0.1 seconds.
    time.sleep(0.15)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM information_schema.innodb_trx"
            " JOIN information_schema.processlist ON id = trx_mysql_thread_id"
            " WHERE trx_state = 'LOCK WAIT' AND db = DATABASE()"
        )
        count: int = cursor.fetchone()[0]
        return count


def storm(key: str, *, copies: int) -> list[Answer]:
    """Send copies that all meet the first one while it is inside the view."""
    with crew() as threads, stage.closed():
        futures = [start(threads, send, key) for _ in range(copies)]
        until_waiting(copies - 1)
        stage.is_open.set()
        return [future.result(TIMEOUT) for future in futures]


def release(key: str) -> None:
    """Leave a released record."""
    stage.failures.append(ValueError())
    assert send(key).status == 500
    stage.entered = 0


# Of many copies one runs


@pytest.mark.parametrize("round_", range(3))
def test_ten_new_keys_and_then_ten_copies_of_one(round_: int) -> None:
    """FR-080."""
    different = all_at_once(10, lambda _: send(new_key()))
    key = new_key()
    copies = all_at_once(10, lambda _: send(key))

    assert told(different) == {"201": 10}
    assert told(copies) == {"201": 1, "201 replayed": 9}
    assert Order.objects.count() == 11


@pytest.mark.parametrize("before", ["nothing", "released", "expired", "fails"])
def test_copies_get_the_answer_of_the_one_they_wait_for(before: str) -> None:
    """FR-080."""
    key = new_key()
    if before == "released":
        release(key)
    elif before == "expired":
        send(key)
        expire()

    failures = {"500": 4} if before == "fails" else {}
    stage.failures.extend(ValueError() for _ in range(failures.get("500", 0)))

    words = told(storm(key, copies=10))

    assert words == failures | {"201": 1, "201 replayed": 9 - len(failures) * 4}
    assert Order.objects.count() == 1 + (before == "expired")


def test_many_keys_at_once_of_which_each_fails_once() -> None:
    """FR-080: no deadlock reaches a client, nor is a new key refused."""
    keys = [new_key() for _ in range(10)]
    stage.failures.extend(ValueError() for _ in keys)

    answers = all_at_once(8, lambda _: [send(key) for key in keys])

    words = told(answer for each in answers for answer in each)
    assert (words["500"], words["201"], words["201 replayed"]) == (10, 10, 60)
    assert Order.objects.count() == 10


def test_new_keys_are_not_kept_out_by_who_came_after_a_failed_leader() -> None:
    """Note [Why MariaDB never waits in the claim]: the table has one gap, for all."""
    entered, leave = threading.Event(), threading.Event()

    @idempotent
    def failing(request: IdempotentRequest) -> HttpResponse:
        entered.set()
        assert leave.wait(TIMEOUT)
        raise ValueError

    key = new_key()
    with crew() as threads, stage.closed():
        first = start(threads, send, key, failing)
        assert entered.wait(TIMEOUT)
        copies = [start(threads, send, key) for _ in range(3)]
        until_waiting(3)
        leave.set()
        assert first.result(TIMEOUT).status == 500
        until_inside(1)
        others = [start(threads, send, new_key(), impatient) for _ in range(3)]
        until(lambda: stage.entered == 4 or any(other.done() for other in others))
        stage.is_open.set()
        answers = [each.result(TIMEOUT) for each in (*copies, *others)]

    assert told(answers) == {"201": 4, "201 replayed": 2}


def test_server_that_is_no_node_any_more_is_claimed_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where a standby without Galera has taken a cluster's place meanwhile."""
    monkeypatch.setitem(dialects._are_nodes, "default", True)

    assert [send(new_key()).word for _ in range(2)] == ["201"] * 2


def test_failure_that_cannot_be_noted_is_told_as_an_error_of_the_database() -> None:
    """Nothing else is expected after a view's own error, or would stand for it.

    The expired row can be deleted, but where it would stand another session has a lock.
    """
    note_failure(OPERATION, "ValueError")
    expire()
    with another(connection) as other, other.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("START TRANSACTION")
        cursor.execute(
            f"SELECT id FROM {RECORDS} FORCE INDEX (idempotency_record_expires)"  # noqa: S608
            " WHERE expires_at > UTC_TIMESTAMP() FOR UPDATE"
        )
        with pytest.raises(OperationalError):
            note_failure(OPERATION, "ValueError")


# The wait


def copy_of_one_in_flight(view: Any) -> Answer:
    key = new_key()
    with crew() as threads, stage.closed():
        first = start(threads, send, key)
        until_inside(1)
        answer = start(threads, send, key, view).result(TIMEOUT)
        stage.is_open.set()
        assert first.result(TIMEOUT).word == "201"
    return answer


@pytest.mark.parametrize("view", [impatient, hasty], ids=["no wait", "0.3 s"])
def test_copy_whose_wait_is_over_is_told_so(view: Any) -> None:
    assert copy_of_one_in_flight(view).word == "409 in-flight"
    assert Order.objects.count() == 1


def test_replay_does_not_wait_for_who_has_locked_the_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = new_key()
    send(key)
    # As in another process, which claims first.
    monkeypatch.setattr(record_row, "answered", record_row.RecentIds(1))
    with second_connection() as other:
        other.set_autocommit(False)
        execute(other, f"SELECT 1 FROM {RECORDS} FOR UPDATE")  # noqa: S608
        answer = send(key, impatient)
        other.rollback()

    assert answer.word == "201 replayed"


@pytest.mark.parametrize(
    ("wait", "projects", "limits"),
    [
        (timedelta(0), (0, 86400), (0, 0, 0)),
        (timedelta(milliseconds=300), (0, 86400), (1, 1, 0.3)),
        (timedelta(seconds=5), (0, 86400), (5, 5, 5)),
        (timedelta(seconds=5), (2.5, 2), (5, 2, 2.5)),
        (timedelta(seconds=5), (60, 60), (5, 5, 5)),
    ],
    ids=["none", "short", "long", "project's-is-shorter", "project's-is-longer"],
)
def test_limits_are_of_the_statement_alone(
    wait: timedelta, projects: tuple[float, int], limits: tuple[float, ...]
) -> None:
    def found() -> tuple[Any, ...]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT @@innodb_lock_wait_timeout, @@lock_wait_timeout,"
                " @@max_statement_time"
            )
            row: tuple[Any, ...] = cursor.fetchone()
            return row

    own = "SET max_statement_time = %s, lock_wait_timeout = %s"
    execute(connection, own, *projects)
    before = found()
    with dialect_of(connection).opening(connection, wait):
        inside = found()

    assert (inside, found()) == (limits, before)


def test_time_limit_of_the_project_ends_the_wait(
    level: str, connect_with: Connect
) -> None:
    key = new_key()
    with crew() as threads, stage.closed():
        first = start(threads, send, key)
        until_inside(1)
        connect_with(isolation_level=level, init_command="SET max_statement_time = 0.2")
        answer = start(threads, send, key).result(TIMEOUT)
        stage.is_open.set()
        first.result(TIMEOUT)

    assert answer.word == "409 in-flight"


def execute(session: BaseDatabaseWrapper, sql: str, *parameters: Any) -> None:
    with session.cursor() as cursor:
        cursor.execute(sql, parameters)


# Deadlocks


def test_victim_of_a_deadlock_claims_again(level: str) -> None:
    """FR-080: somebody cleans up by hand, under REPEATABLE READ, while a key is renewed."""
    key = new_key()
    release(key)
    (record,) = IdempotencyRecord.objects.all()
    with second_connection() as other, crew() as threads:
        other.set_autocommit(False)
        execute(other, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        # Its many writes make it the one that InnoDB would rather not roll back.
        for _ in range(20):
            execute(other, NEW_ORDER)
        gap = f"SELECT 1 FROM {RECORDS} WHERE expires_at > %s FOR UPDATE"  # noqa: S608
        execute(other, gap, record.expires_at.replace(tzinfo=None))
        renewal = start(threads, send, key)
        until_waiting(1)
        row = f"SELECT 1 FROM {RECORDS} WHERE id = %s FOR UPDATE"  # noqa: S608
        before = deadlocks()
        execute(other, row, record.id.hex)
        assert deadlocks() > before
        other.rollback()
        word = renewal.result(TIMEOUT).word

    assert word == "201"
    assert Order.objects.count() == 1


def deadlocks() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")
        return int(cursor.fetchone()[1])


def test_deadlock_of_two_transactions_around_claims_is_told_to_one() -> None:
    """FR-005: InnoDB rolls back the whole of it, which is the transaction's own affair."""
    one, other = new_key(), new_key()
    orders = [(one, other), (other, one)]
    meet = threading.Barrier(2)

    def claim_both(number: int) -> list[str]:
        with transaction.atomic():
            words = [send(orders[number][0]).word]
            meet.wait(TIMEOUT)
            words.append(send(orders[number][1]).word)
        return words

    told = sorted(all_at_once(2, claim_both))

    assert told == [["201", "201"], ["201", "409 in-flight"]]
    assert [send(key).word for key in (one, other)] == ["201 replayed"] * 2
    assert Order.objects.count() == 2


# Transactions whose snapshot is older than the row


def test_answer_outside_the_snapshot_is_replayed() -> None:
    key = new_key()
    with transaction.atomic(), crew() as threads:
        User.objects.count()
        start(threads, send, key).result(TIMEOUT)
        word = send(key).word

    assert word == "201 replayed"
    assert Order.objects.count() == 1


def test_row_that_was_released_in_the_snapshot_is_not_run_again(level: str) -> None:
    """Note [Reading what is newest]"""
    key = new_key()
    release(key)
    with transaction.atomic(), crew() as threads:
        if level != "serializable":  # there to read is to lock
            assert IdempotencyRecord.objects.get().state == "released"
        start(threads, send, key).result(TIMEOUT)
        word = send(key).word

    assert word == "201 replayed"
    assert Order.objects.count() == 1


# What a view swallows


@pytest.fixture
def losing() -> Callable[[], None]:
    """Work that writes an order, and at the first time loses it in a deadlock."""
    fights = [1]

    def write() -> None:
        execute(connection, NEW_ORDER)
        if fights:
            fights.pop()
            be_the_victim(connection)

    return write


@pytest.mark.parametrize("key", [new_key(), None], ids=["with key", "without key"])
def test_success_over_a_swallowed_deadlock_is_an_error(
    key: str | None, losing: Callable[[], None]
) -> None:
    @idempotent(required=False)
    def view(request: IdempotentRequest) -> HttpResponse:
        losing()
        return HttpResponse(status=201)

    with pytest.raises(BrokenTransaction):
        call(view, key)
    assert Order.objects.count() == 0

    assert call(view, key).word == "201"
    assert Order.objects.count() == 1


def test_step_that_swallowed_a_deadlock_is_not_remembered(
    losing: Callable[[], None],
) -> None:
    @idempotent(lease=timedelta(minutes=1))
    def view(request: IdempotentRequest) -> HttpResponse:
        request.idempotency.write("order", losing)
        return HttpResponse(status=201)

    key = new_key()
    with pytest.raises(TransactionManagementError):
        call(view, key)
    assert Order.objects.count() == 0

    assert [call(view, key).word for _ in range(2)] == ["201", "201 replayed"]
    assert Order.objects.count() == 1


# What is stored


def test_clock_is_not_that_of_the_sessions_time_zone(
    level: str, connect_with: Connect, settings: Any
) -> None:
    settings.IDEMPOTENCY_RETENTION = timedelta(hours=2)
    connect_with(isolation_level=level, init_command="SET time_zone = '+05:00'")
    key = new_key()
    words = [send(key).word for _ in range(2)]
    expires_at = IdempotencyRecord.objects.get().expires_at
    IdempotencyRecord.objects.update(expires_at=UtcNow())
    (record,) = IdempotencyRecord.objects.all()

    assert words == ["201", "201 replayed"]
    for instant in (expires_at - timedelta(hours=2), record.expires_at):
        assert abs(timezone.now() - instant) < timedelta(hours=1)


def test_keys_that_differ_in_case_alone_are_different() -> None:
    key = "a" * 21

    assert [send(each).word for each in (key, key.upper())] == ["201", "201"]


def test_objects_of_events_that_differ_in_case_alone_do_not_wait_for_each_other() -> (
    None
):
    """Nor such as differ in trailing spaces, which MariaDB ignores, too."""
    now = timezone.now()
    waiting = {"a": 3, "A": 2, "a ": 1}
    for object_key, seconds in waiting.items():
        ProcessedEvent.objects.create(
            id=uuid.uuid4(),
            state="received",
            object_key=object_key,
            payload=b"",
            next_attempt_at=now - timedelta(seconds=seconds),
            received_at=now - timedelta(seconds=seconds),
            expires_at=now + timedelta(hours=1),
        )
    begun = [
        due.look(using="default", free_after=timedelta(minutes=1)).begun
        for _ in waiting
    ]

    assert None not in begun


# The purge


def test_purge_leaves_what_is_being_renewed() -> None:
    key = new_key()
    send(key)
    expire()
    stage.entered = 0
    make_expired(5)
    with crew() as threads, stage.closed():
        renewal = start(threads, send, key)
        until_inside(1)
        purged = purge()
        stage.is_open.set()
        assert renewal.result(TIMEOUT).word == "201"

    assert (purged, send(key).word) == (5, "201 replayed")


def test_two_purges_share_the_work() -> None:
    require_two_purges_to_share(2000)


def test_requests_go_on_during_a_purge() -> None:
    words = words_during_a_purge(2000, send, lambda: None)

    assert words == {"201": 40, "201 replayed": 40}
    assert Order.objects.count() == 80


@pytest.mark.parametrize("isolation", ["ON", "OFF"])
def test_look_that_ends_the_transaction_around_it_takes_all_of_it(
    isolation: str, level: str, connect_with: Connect
) -> None:
    """Under snapshot isolation a locking read of what has changed since ends it."""
    connect_with(
        isolation_level=level,
        init_command=f"SET innodb_snapshot_isolation = {isolation}",
    )
    key, word = new_key(), ""
    before = Order(reference="before")

    with suppress(OperationalError, TransactionManagementError), transaction.atomic():
        before.save()
        User.objects.exists()  # the snapshot
        keep_elsewhere(key)
        word = send(key).word
        Order.objects.create(reference="after")

    found = set(Order.objects.exclude(reference="").values_list("reference", flat=True))
    assert found in (set(), {"before", "after"}), (word, found)


def keep_elsewhere(key: str) -> None:
    """In another session somebody is answered under this key."""
    with crew() as threads:
        assert start(threads, send, key).result(TIMEOUT).word == "201"
