"""A handler in the transaction of its event."""

import asyncio
import contextlib
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import Event, NotReady, PermanentError
from tests.integration.webhooks.receivers import marks, only, scene, states, steps
from tests.support.deliveries import deliver, stripe, stripe_signed
from tests.testapp.models import Order

pytestmark = marks


def statuses(path: str, count: int, **fields: Any) -> list[int]:
    return [deliver(path, stripe(**fields)).status_code for _ in range(count)]


def test_repeats_are_acknowledged_and_not_handled() -> None:  # F2, FR-086
    assert statuses("/inline/", 3) == [200, 200, 200]
    assert scene.handled == ["evt_1"]
    assert Order.objects.count() == 1
    event = only()
    assert (event.state, event.attempts) == ("processed", 1)
    assert (event.payload, event.headers) == (None, {})
    assert event.processed_at is not None


def test_handler_gets_the_event() -> None:
    sent = stripe(account="acct_1", created=1_760_000_001)
    deliver("/inline/", sent)

    (event,) = scene.events
    assert (event.id, event.type, event.source, event.endpoint) == (
        "evt_1",
        "invoice.paid",
        "stripe",
        "tested-inline",
    )
    assert "acct_1" in event.account
    assert event.object_key == "in_1"
    assert event.occurred_at is not None
    assert event.occurred_at.timestamp() == 1_760_000_001
    assert event.raw == sent.body
    assert event.data["data"] == {"object": {"id": "in_1"}}
    assert event.attempt == 1


def test_failure_is_no_duplicate() -> None:  # F1, F8, FR-087
    scene.failures.append(ValueError("not today"))

    assert deliver("/inline/", stripe()).status_code == 500
    failed = only()
    assert (failed.state, failed.attempts) == ("failed", 1)
    assert failed.last_error == "builtins.ValueError"
    assert failed.payload is None
    assert Order.objects.count() == 0

    assert statuses("/inline/", 2) == [200, 200]
    assert [event.attempt for event in scene.events] == [1, 2]
    assert Order.objects.count() == 1
    assert (only().state, only().attempts) == ("processed", 2)


def promise_what_the_commit_refuses(event: Event) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMPORARY TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
            " ON COMMIT DROP; INSERT INTO late VALUES (1), (1)"
        )


def order_twice(event: Event) -> None:
    Order.objects.create(reference="r")
    Order.objects.create(reference="r")


def swallow_an_error(event: Event) -> None:
    with contextlib.suppress(DatabaseError):
        order_twice(event)


def swallow_an_error_of_a_cursor(event: Event) -> None:
    with connection.cursor() as cursor, contextlib.suppress(DatabaseError):
        cursor.execute("SELECT 1 / 0")


def roll_back(event: Event) -> None:
    transaction.set_rollback(True)


def forget_the_event(event: Event) -> None:
    ProcessedEvent.objects.all().delete()


async def return_a_coroutine(event: Event) -> None: ...


def return_a_future(event: Event) -> Any:
    loop = asyncio.new_event_loop()
    loop.close()
    return loop.create_future()


BOTH = pytest.mark.parametrize("path", ["/inline/", "/inbox/"])
INLINE = pytest.mark.parametrize("path", ["/inline/", "/rest/"])


@pytest.mark.parametrize(
    "act",
    [
        order_twice,  # F6
        swallow_an_error,
        pytest.param(swallow_an_error_of_a_cursor, marks=pytest.mark.postgresql),
        pytest.param(promise_what_the_commit_refuses, marks=pytest.mark.postgresql),
        roll_back,
        forget_the_event,
        return_a_coroutine,
        return_a_future,
    ],
)
@BOTH
def test_what_only_looks_like_success_is_a_failure(path: str, act: Any) -> None:
    scene.act = act

    status = deliver(path, stripe()).status_code
    steps()
    assert status == (500 if path == "/inline/" else 200)
    assert states() == {"evt_1": "failed"}
    assert Order.objects.count() == 0


def test_handler_may_have_errors_in_its_own_atomic() -> None:
    def try_twice(event: Event) -> None:
        Order.objects.create(reference="r")
        with pytest.raises(DatabaseError), transaction.atomic():
            Order.objects.create(reference="r")

    scene.act = try_twice
    assert deliver("/inline/", stripe()).status_code == 200
    assert Order.objects.count() == 2


@INLINE
def test_not_ready_asks_for_another_delivery(path: str) -> None:  # F14, FR-096
    scene.failures.append(NotReady("no order yet"))

    answer = deliver(path, stripe())
    assert (answer.status_code, answer["Retry-After"]) == (503, "30")
    assert states() == {"evt_1": "failed"}
    assert Order.objects.count() == 0
    assert statuses(path, 2) == [200, 200]
    assert Order.objects.count() == 1


@INLINE
def test_permanent_error_is_acknowledged_with_its_payload_stored(path: str) -> None:
    """F10"""
    scene.failures.append(PermanentError("never"))
    sent = stripe()

    assert deliver(path, sent).status_code == 200
    dead = only()
    assert dead.state == "dead"
    assert bytes(dead.payload or b"") == sent.body
    assert Order.objects.count() == 0
    assert statuses(path, 2) == [200, 200]
    assert len(scene.events) == 1


@pytest.mark.postgresql
def test_permanent_error_that_cant_be_noted_is_not_acknowledged() -> None:
    """The payload is not stored, so that the event must come again."""
    scene.failures.append(PermanentError())
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE django_idempotency_processedevent"
            " ADD CONSTRAINT nobody_dies CHECK (state <> 'dead')"
        )
    try:
        assert deliver("/inline/", stripe()).status_code == 500
    finally:
        with connection.cursor() as cursor:
            cursor.execute(
                "ALTER TABLE django_idempotency_processedevent"
                " DROP CONSTRAINT nobody_dies"
            )
    assert states() == {}
    assert deliver("/inline/", stripe()).status_code == 200
    assert Order.objects.count() == 1


def test_poison_event_is_given_up_after_its_attempts() -> None:  # F9
    scene.failures.extend(ValueError() for _ in range(9))

    assert statuses("/limited/", 6) == [500, 500, 500, 500, 200, 200]
    assert len(scene.events) == 5
    dead = only()
    assert (dead.state, dead.attempts) == ("dead", 5)
    assert dead.payload is not None


def test_without_a_limit_only_the_provider_gives_up() -> None:
    scene.failures.extend(ValueError() for _ in range(20))

    assert statuses("/inline/", 21) == [500] * 20 + [200]
    assert [event.attempt for event in scene.events] == list(range(1, 22))


def test_outgoing_calls_carry_the_same_key_on_each_attempt() -> None:  # F40
    keys: list[tuple[str, str]] = []

    def call_outside(event: Event) -> None:
        keys.append((event.key_for("charge"), event.key_for("mail")))
        if len(keys) == 1:
            raise ConnectionError

    scene.act = call_outside
    assert statuses("/inline/", 2) == [500, 200]
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 2
    deliver("/inline/", stripe("evt_2"))
    assert keys[2] != keys[0]


@pytest.mark.parametrize("error", [ZeroDivisionError, NotReady, PermanentError])
@BOTH
def test_callback_after_the_commit_cant_undo_the_event(path: str, error: Any) -> None:
    def raise_it() -> None:
        raise error

    scene.act = lambda event: transaction.on_commit(raise_it)
    for _ in range(2):
        assert deliver(path, stripe()).status_code == 200
        steps()

    assert states() == {"evt_1": "processed"}
    assert Order.objects.count() == 1


def test_handler_sees_the_id_that_counts_where_keys_are_doubled() -> None:  # F23
    body = b'{"id": "evt_a", "id": "evt_b", "type": "invoice.paid"}'

    assert deliver("/inline/", stripe_signed(body)).status_code == 200
    (event,) = scene.events
    assert event.data["id"] == event.id == only().event_id == "evt_b"


@pytest.mark.parametrize("second", [265, 266], ids=["F12 FR-095 earlier", "F13 equal"])
def test_events_of_an_object_both_run_in_any_order(second: int) -> None:
    """Order is the handler's business: it knows when each occurred."""
    for event_id, created in (("evt_2", 266), ("evt_1", second)):
        sent = stripe(event_id, created=created)
        assert deliver("/inline/", sent).status_code == 200

    assert scene.handled == ["evt_2", "evt_1"]
    times = [event.occurred_at for event in scene.events]
    assert [time and time.timestamp() for time in times] == [266, second]
    assert Order.objects.count() == 2
