"""Deliveries of several events: each in its own transaction, acknowledged together."""

from typing import Any

import pytest

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import Event, NotReady, PermanentError
from tests.integration.webhooks.receivers import marks, scene, states, steps
from tests.support.cases import cases
from tests.support.deliveries import adyen, deliver, gocardless, gocardless_signed
from tests.testapp.models import Order

pytestmark = marks


def fail_at(event_id: str, error: Exception) -> None:
    def act(event: Event) -> None:
        if event.id == event_id:
            raise error

    scene.act = act


def test_each_event_runs_once_also_if_it_is_twice_in_a_batch() -> None:  # F35, FR-091
    for _ in range(2):
        batch = gocardless("a", "b", "a", "c")
        assert deliver("/gocardless/", batch).status_code == 204
    assert sorted(scene.handled) == ["a", "b", "c"]


@pytest.mark.parametrize("failing", ["a", "b", "c"])
def test_one_failure_repeats_only_itself(failing: str) -> None:  # F32, FR-091
    deliver("/gocardless/", gocardless("done"))
    fail_at(failing, ValueError())
    batch = gocardless("done", "a", "b", "c")

    assert deliver("/gocardless/", batch).status_code == 500
    assert sorted(scene.handled) == ["a", "b", "c", "done"]
    assert states() == dict.fromkeys(scene.handled, "processed") | {failing: "failed"}
    scene.reset()
    assert deliver("/gocardless/", batch).status_code == 204
    assert scene.handled == [failing]
    assert Order.objects.count() == 4


@cases(
    "error, answer, state",
    {
        "dead": (PermanentError(), (204, None), "dead"),
        "not ready": (NotReady(), (503, "30"), "failed"),
    },
)
def test_batch_is_answered_as_its_worst_event(
    error: Exception, answer: tuple[int, str | None], state: str
) -> None:
    fail_at("b", error)

    answered = deliver("/gocardless/", gocardless("a", "b"))
    assert (answered.status_code, answered.get("Retry-After")) == answer
    assert states() == {"a": "processed", "b": state}


def test_forged_item_stops_the_batch_before_any_runs() -> None:  # F34
    assert deliver("/adyen/", adyen("psp1", "psp2", forged="psp2")).status_code == 401
    assert scene.events == []
    assert not ProcessedEvent.objects.exists()


def test_provider_reads_what_it_wants_to_read() -> None:
    answer = deliver("/adyen/", adyen("psp1", "psp2"))

    assert (answer.status_code, answer.content) == (200, b"[accepted]")
    assert len(scene.events) == 2


def test_everybody_claims_in_one_order() -> None:  # F33
    deliver("/gocardless/", gocardless("a", "b", "c", "d"))
    first = scene.handled
    ProcessedEvent.objects.all().delete()
    scene.reset()
    deliver("/gocardless/", gocardless("d", "c", "b", "a"))

    assert scene.handled == first


@pytest.mark.parametrize("batch", [(), ("a", "")], ids=["empty", "without-id"])
def test_batch_that_cant_be_used_leaves_nothing(batch: tuple[str, ...]) -> None:
    assert deliver("/gocardless/", gocardless(*batch)).status_code == 400
    assert not ProcessedEvent.objects.exists()


@cases(
    "path, error, state",
    {
        "inbox": ("/gocardless-inbox/", None, "received"),
        "ignored": ("/no-debits/", None, "ignored"),
        "dead": ("/gocardless/", PermanentError, "dead"),
    },
)
def test_batch_is_stored_once_and_not_with_each_event(
    path: str, error: Any, state: str
) -> None:
    batch = gocardless(*(f"EV{number}" for number in range(250)))
    scene.failures.extend(error() for _ in range(250 if error else 0))

    assert deliver(path, batch).status_code == 204
    stored = {
        event.event_id: bytes(event.payload or b"")
        for event in ProcessedEvent.objects.all()
    }
    assert states() == dict.fromkeys((f"EV{each}" for each in range(250)), state)
    assert sum(map(len, stored.values())) < 1.5 * len(batch.body)
    # Each event has its own part of it, and nobody else's.
    assert b'"EV7"' in stored["EV7"]
    assert b'"EV8"' not in stored["EV7"]


@pytest.mark.parametrize("path", ["/gocardless/", "/gocardless-inbox/"])
def test_handler_gets_its_own_part_of_the_body_byte_for_byte(path: str) -> None:
    item = (
        '{"id" : "EV1",  "amount": 1.10000000000000000001, "note": "\\u00e9é\\ud800"}'
    )
    body = f'{{"live": 1e2, "events" :[ {item},{{"id": "EV2"}}\n] , "meta": {{}} }}'
    deliver(path, gocardless_signed(body.encode()))
    steps()

    raw = {event.id: event.raw.decode() for event in scene.events}
    assert raw["EV1"] == f'{{"live": 1e2, "events" :[{item}] , "meta": {{}} }}'
    assert raw["EV2"] == '{"live": 1e2, "events" :[{"id": "EV2"}] , "meta": {} }'
