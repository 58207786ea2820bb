"""Stored deliveries and the step that handles one."""

import logging
import random
import sys
from asyncio import CancelledError
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import (
    DatabaseError,
    Error,
    InterfaceError,
    OperationalError,
    connection,
    transaction,
)
from django.db.models import JSONField, Value
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import Event, NotReady, PermanentError
from django_idempotency.webhooks.endpoints import DEFAULT_MAX_ATTEMPTS
from django_idempotency.webhooks.inbox import FIRST_RETRY, LONGEST_RETRY, Step
from django_idempotency.webhooks.inbox import process_next as step
from tests.integration.webhooks.receivers import (
    make_due,
    marks,
    only,
    scene,
    states,
    steps,
)
from tests.support.cases import cases
from tests.support.deliveries import deliver, github, stripe
from tests.support.threads import second_connection
from tests.testapp.models import Order

pytestmark = marks


@contextmanager
def sys_int_limit_lifted() -> Iterator[None]:
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    yield
    sys.set_int_max_str_digits(limit)


def until_next_attempt() -> timedelta:
    next_attempt_at = only().next_attempt_at
    assert next_attempt_at is not None
    return next_attempt_at - timezone.now()


@pytest.mark.parametrize("path", ["/inbox/", "/rest-inbox/"])
def test_stored_event_is_acknowledged_at_once_and_handled_once(path: str) -> None:
    sent = stripe()
    for _ in range(3):
        assert deliver(path, sent).status_code == 200

    event = only()
    assert (event.state, event.attempts) == ("received", 0)
    assert bytes(event.payload or b"") == sent.body
    assert scene.events == []
    assert steps() == [Step.PROCESSED]
    event = only()
    assert (event.state, event.attempts, event.payload) == ("processed", 1, None)
    assert event.next_attempt_at is None
    assert deliver(path, stripe()).status_code == 200
    assert steps() == []
    assert Order.objects.count() == 1


def test_handler_gets_the_same_event_as_inline() -> None:
    sent = stripe(account="acct_1", data={"object": {"id": "in_1", "text": "\0é"}})
    for path in ("/inline/", "/inbox/"):
        deliver(path, sent)
    steps()

    inline, stored = scene.events
    for name in ("id", "type", "source", "account", "object_key", "occurred_at", "raw"):
        assert getattr(stored, name) == getattr(inline, name)
    assert stored.data == inline.data
    assert stored.attempt == 1


def test_headers_that_tell_of_the_event_are_kept_and_signatures_are_not() -> None:
    deliver("/github/", github("guid-1", hook="7"))

    assert only().headers == {
        "X-GitHub-Delivery": "guid-1",
        "X-GitHub-Event": "push",
        "X-GitHub-Hook-ID": "7",
    }
    assert steps() == [Step.PROCESSED]
    (event,) = scene.events
    assert (event.id, event.type, event.account) == ("guid-1", "push", "7")


def test_failure_is_tried_again_later() -> None:
    scene.failures.append(ValueError())
    deliver("/inbox/", stripe())

    assert steps() == [Step.FAILED]
    event = only()
    assert (event.state, event.last_error) == ("failed", "builtins.ValueError")
    assert event.payload is not None
    assert timedelta(0) < until_next_attempt() < FIRST_RETRY * 2
    assert Order.objects.count() == 0
    # It is in the inbox: nobody has to send it again.
    assert deliver("/inbox/", stripe()).status_code == 200

    make_due()
    assert steps() == [Step.PROCESSED]
    assert [event.attempt for event in scene.events] == [1, 2]
    assert Order.objects.count() == 1


def test_delay_grows_and_has_an_end() -> None:
    deliver("/inbox/", stripe())
    longest = []
    for attempts in (0, 5, 13):
        ProcessedEvent.objects.update(attempts=attempts)
        delays = []
        for _ in range(10):
            scene.failures.append(ValueError())
            make_due()
            step()
            delays.append(until_next_attempt())
            ProcessedEvent.objects.update(attempts=attempts)
        assert len(set(delays)) > 1  # jitter
        longest.append(max(delays))

    assert longest == sorted(longest)
    assert longest[-1] <= LONGEST_RETRY


def test_event_that_is_not_ready_waits_as_long_as_it_asks() -> None:  # F14
    scene.failures.append(NotReady(after=timedelta(minutes=5)))
    deliver("/inbox/", stripe())

    assert steps() == [Step.FAILED]
    assert timedelta(minutes=4) < until_next_attempt() <= timedelta(minutes=5)
    make_due()
    assert steps() == [Step.PROCESSED]
    assert Order.objects.count() == 1


@pytest.mark.parametrize(
    "after",
    [
        *(60, 0.5, None, timedelta(0), timedelta(seconds=-1), timedelta(days=35)),
        timedelta(days=365 * 9000),  # no date is beyond the year 9999
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/inline/", "/inbox/"])
def test_pause_that_cannot_be_meant_is_refused_where_it_is_written(
    after: Any, path: str
) -> None:
    """In the handler, as an error of its own, and not in the worker."""

    def ask(event: Event) -> None:
        with pytest.raises(ValueError, match=r"NotReady\(after="):
            raise NotReady(after=after)
        scene.act = lambda event: None

    scene.act = ask
    deliver(path, stripe())
    steps()
    assert only().state == "processed"


class Unready(NotReady):
    """Says nothing about when."""

    def __init__(self) -> None:
        pass


class UnreadyForLong(NotReady):
    after: Any = 60


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError


class Crash(BaseException):
    pass


RAISED = [
    *(ValueError, Unready, UnreadyForLong, Unprintable, RecursionError, MemoryError),
    *(SystemExit, GeneratorExit, CancelledError, Crash, DatabaseError, Error),
    *(OperationalError, InterfaceError, StopIteration, AssertionError),
    type("Unstorable", (Exception,), {"__qualname__": "\0\ud800"}),
    type("Nameless", (Exception,), {"__module__": None}),
    type("E" * 300, (Exception,), {}),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: ascii(error.__name__)[:20])
@pytest.mark.parametrize("moment", ["in the handler", "after the commit"])
def test_worker_survives_whatever_an_event_raises(
    error: type[BaseException], moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And goes on with the others."""
    # Not into a report: a name that can't be stored can't be sent to it either.
    logger = logging.getLogger("django_idempotency")
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [logging.NullHandler()])

    def fail(*args: Any, **kwargs: Any) -> bool:
        raise error()

    def act(event: Event) -> None:
        if event.id != "evt_1":
            return
        if moment == "after the commit":
            transaction.on_commit(fail)
        else:
            fail()

    scene.act = act
    for event_id in ("evt_1", "evt_2"):
        deliver("/inbox/", stripe(event_id))
    call_command("process_events", until_empty=True)
    done = "processed" if moment == "after the commit" else "failed"
    assert states() == {"evt_1": done, "evt_2": "processed"}


def test_person_can_still_interrupt() -> None:
    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    scene.act = interrupt
    deliver("/inbox/", stripe())
    with pytest.raises(KeyboardInterrupt):
        step()


DEEP = "[" * 5_000 + "]" * 5_000

POISON: dict[str, Any] = {
    "payload not JSON": {"payload": b"\xff"},
    "payload empty": {"payload": b""},
    "payload deep": {"payload": DEEP.encode() * 20},
    "payload a long number": {"payload": b'{"id": ' + b"1" * 5000 + b"}"},
    "payload a list": {"payload": b"[1]"},
    "headers a list": {"headers": [1]},
    "headers null": {"headers": Value(None, JSONField())},
    "headers numbers": {"headers": {"Stripe-Signature": 1}},
    "headers a long number": {"headers": {"a": 10**5000}},
    "attempts at their end": {"attempts": 2**31 - 1},
    "no endpoint": {"endpoint": ""},
    "another profile": {"endpoint": "tested-gocardless"},
    "another account": {"account": "other"},
    "ordered": {"object_key": "x", "event_type": "y"},
    "negative": {"uncounted_attempts": 99},
    "happened never": {"occurred_at": "0001-01-01T00:00:00Z"},
    "identity raises": {"endpoint": "tested-by-nothing"},
}


@cases("columns", POISON)
def test_worker_survives_whatever_a_row_holds(columns: dict[str, Any]) -> None:
    """And whoever looks after it is told."""
    deliver("/inbox/", stripe("evt_1"))
    with sys_int_limit_lifted():
        ProcessedEvent.objects.update(**columns)
    deliver("/inbox/", stripe("evt_2"))
    call_command("process_events", until_empty=True)

    assert states()["evt_2"] == "processed"
    assert states()["evt_1"] in {"dead", "failed", "processed"}


@pytest.mark.parametrize(("error", "attempts"), [(ValueError, 2), (PermanentError, 1)])
def test_event_is_given_up_after_its_attempts(error: Any, attempts: int) -> None:
    """F9, and F10: at once if nothing else will help."""
    scene.failures.extend(error() for _ in range(3))
    deliver("/limited-inbox/", stripe())

    for _ in range(1, attempts):
        assert step() is Step.FAILED
        make_due()
    assert step() is Step.DEAD
    event = only()
    assert (event.state, event.attempts) == ("dead", attempts)
    assert event.next_attempt_at is None
    assert event.payload is not None
    assert deliver("/limited-inbox/", stripe()).status_code == 200
    assert steps() == []
    assert len(scene.events) == attempts


@pytest.mark.parametrize("path", ["/limited-inbox/", "/limited/"])
def test_event_that_is_not_ready_uses_up_no_attempt(path: str) -> None:
    """Of two in the inbox, of five inline."""
    limit = 2 if "inbox" in path else 5
    scene.failures.extend(NotReady() for _ in range(7))
    scene.failures.extend(ValueError() for _ in range(limit))
    for _ in range(7 + limit - 1):
        deliver(path, stripe())
        make_due()
        steps()
        assert only().state == "failed"
    deliver(path, stripe())
    make_due()
    steps()

    event = only()
    assert (event.state, event.attempts) == ("dead", 7 + limit)
    assert [each.attempt for each in scene.events] == list(range(1, 8 + limit))


def test_event_that_has_killed_its_worker_each_time_is_given_up_unseen() -> None:
    deliver("/inbox/", stripe())
    # What is committed before the handler runs, so many times.
    ProcessedEvent.objects.update(attempts=DEFAULT_MAX_ATTEMPTS)

    assert steps() == [Step.DEAD]
    assert scene.events == []


@pytest.mark.postgresql
def test_attempt_is_counted_before_the_handler_runs() -> None:
    counted = []

    def look_from_another_session(event: Event) -> None:
        with second_connection() as other, other.cursor() as cursor:
            cursor.execute(
                "SELECT attempts, next_attempt_at > clock_timestamp()"
                " FROM django_idempotency_processedevent"
            )
            counted.append(cursor.fetchone())

    scene.act = look_from_another_session
    deliver("/inbox/", stripe())
    assert step() is Step.PROCESSED
    assert counted == [(1, True)]


def test_event_of_a_receiver_that_is_gone_is_tried_again() -> None:
    """As between two releases; it isn't lost, and it doesn't stop the others."""
    deliver("/inbox/", stripe("evt_1"))
    ProcessedEvent.objects.update(endpoint="renamed")
    deliver("/inbox/", stripe("evt_2"))

    assert sorted(each.name for each in steps()) == ["FAILED", "PROCESSED"]
    assert states() == {"evt_1": "failed", "evt_2": "processed"}
    event = ProcessedEvent.objects.get(event_id="evt_1")
    assert (event.state, event.attempts, event.uncounted_attempts) == ("failed", 1, 1)
    assert event.last_error.endswith(".CannotRun")
    assert event.payload is not None


def test_last_failure_doesnt_give_up_what_another_worker_has_finished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is done while this one writes to the log that it failed."""

    def finish(record: logging.LogRecord) -> bool:
        ProcessedEvent.objects.update(
            state="processed", payload=None, next_attempt_at=None
        )
        return True

    scene.failures.append(ValueError())
    deliver("/limited-inbox/", stripe())
    ProcessedEvent.objects.update(attempts=1)  # of two
    monkeypatch.setattr(logging.getLogger("django_idempotency"), "filters", [finish])

    assert step() is Step.TAKEN
    assert states() == {"evt_1": "processed"}
    assert only().last_error == ""


def test_step_inside_a_transaction_is_refused() -> None:
    deliver("/inbox/", stripe())
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        step()
    assert only().attempts == 0


@pytest.mark.django_db(transaction=False)
def test_step_works_inside_a_test_case() -> None:
    deliver("/inbox/", stripe())

    assert steps() == [Step.PROCESSED]
    assert Order.objects.count() == 1


def test_events_of_an_object_keep_their_order() -> None:  # F42
    deliver("/ordered/", stripe("evt_1"))
    deliver("/ordered/", stripe("evt_2"))
    deliver("/ordered/", stripe("evt_3", data={"object": {"id": "in_2"}}))
    scene.failures.append(ValueError())

    assert step() is Step.FAILED
    assert steps() == [Step.PROCESSED]
    assert scene.handled == ["evt_1", "evt_3"]
    make_due()
    assert steps() == [Step.PROCESSED, Step.PROCESSED]
    assert scene.handled == ["evt_1", "evt_3", "evt_1", "evt_2"]


@pytest.mark.parametrize("seed", range(10))
def test_ordered_objects_lose_neither_order_nor_time(seed: int) -> None:
    """Nothing but its own failure makes an event wait, whatever happens before it."""
    chance = random.Random(seed)  # noqa: S311 - no secret

    def act(event: Event) -> None:
        if chance.random() < 0.4:
            raise chance.choice([ValueError, NotReady, PermanentError])

    scene.act = act
    for number in range(24):
        object_of = {"object": {"id": f"in_{number % 3}"}}
        deliver("/ordered/", stripe(f"evt_{number:02}", data=object_of))
        for _ in range(chance.randrange(3)):
            step()
    for _ in range(200):
        steps()
        # Only what has failed: the others must be due as soon as they may run.
        waiting = ProcessedEvent.objects.exclude(next_attempt_at=None)
        if not waiting.filter(attempts__gt=0).update(next_attempt_at=Now()):
            break

    assert set(states().values()) <= {"processed", "dead"}
    for object_key in ("in_0", "in_1", "in_2"):
        ran = [each.id for each in scene.events if each.object_key == object_key]
        assert ran == sorted(ran)


def test_what_waits_behind_an_earlier_event_is_met_once() -> None:
    """So a worker's look takes as long as without it."""
    scene.failures.append(ValueError())
    for number in range(6):
        deliver("/ordered/", stripe(f"evt_{number}"))
    assert steps() == [Step.FAILED]
    with CaptureQueriesContext(connection) as looked:
        assert step() is Step.NOTHING_DUE

    assert len([each for each in looked if "SELECT id" in each["sql"]]) == 1
    waiting = ProcessedEvent.objects.filter(attempts=0)
    assert waiting.filter(next_attempt_at__gt=Now()).count() == 5


@pytest.mark.parametrize("act", ["delete", "a lost race"])
def test_event_behind_one_that_is_gone_is_looked_at_again(act: str) -> None:
    """A while later, if nobody has made it due."""
    scene.failures.append(NotReady(after=timedelta(hours=1)))
    for event_id in ("evt_1", "evt_2"):
        deliver("/ordered/", stripe(event_id))
    steps()
    first = ProcessedEvent.objects.filter(event_id="evt_1")
    if act == "delete":
        first.delete()
    else:
        first.update(state="processed", payload=None, next_attempt_at=None)
    next_attempt_at = ProcessedEvent.objects.get(event_id="evt_2").next_attempt_at
    assert next_attempt_at is not None
    assert next_attempt_at - timezone.now() < timedelta(minutes=62)
    make_due()
    assert steps() == [Step.PROCESSED]


@cases(
    "path, error, taken",
    {
        "F42 dead": ("/ordered/", PermanentError(), [Step.DEAD, Step.PROCESSED]),
        "unordered": ("/inbox/", ValueError(), [Step.FAILED, Step.PROCESSED]),
    },
)
def test_event_holds_up_no_other(path: str, error: Exception, taken: Any) -> None:
    for event_id in ("evt_1", "evt_2"):
        deliver(path, stripe(event_id))
    scene.failures.append(error)

    assert steps() == taken


@cases("path, told", {"ordered": ("/ordered/", True), "not": ("/inbox/", False)})
def test_object_whose_events_go_on_without_a_dead_one_is_told_of(
    path: str, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Out of order from here on, so somebody has to look."""
    scene.failures.append(PermanentError())
    deliver(path, stripe())
    steps()
    said = [each for each in caplog.records if "of its object" in each.getMessage()]

    assert [each.levelname for each in said] == ["ERROR"] * told
    assert all(vars(each)["row_id"] == only().pk for each in said)


def test_what_has_waited_longest_comes_first() -> None:
    for number in range(4):
        deliver("/inbox/", stripe(f"evt_{number}"))
    ProcessedEvent.objects.filter(event_id="evt_2").update(
        next_attempt_at=Now() - timedelta(hours=1)
    )
    steps()
    assert scene.handled == ["evt_2", "evt_0", "evt_1", "evt_3"]
