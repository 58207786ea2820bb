"""Deliveries of several events: each in its own transaction, acknowledged together."""

from __future__ import annotations

import pytest

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import Event, NotReady, PermanentError
from tests.deliveries import adyen, deliver, gocardless
from tests.integration.webhooks.events import states
from tests.integration.webhooks.receivers import scene
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.integration.webhooks.receivers"),
]


def fail_at(event_id: str, error: Exception) -> None:
    def act(event: Event) -> None:
        if event.id == event_id:
            raise error

    scene.act = act


def test_each_event_runs_once() -> None:
    for _ in range(2):
        assert deliver("/gocardless/", gocardless("a", "b", "c")).status_code == 204
    assert sorted(scene.handled) == ["a", "b", "c"]


def test_one_failure_repeats_only_itself() -> None:  # F32, FR-091
    deliver("/gocardless/", gocardless("b"))
    fail_at("c", ValueError())
    batch = gocardless("a", "b", "c")

    assert deliver("/gocardless/", batch).status_code == 500
    assert states() == {"a": "processed", "b": "processed", "c": "failed"}
    scene.reset()
    assert deliver("/gocardless/", batch).status_code == 204
    assert scene.handled == ["c"]
    assert Order.objects.count() == 3


def test_failure_keeps_no_later_event_from_running() -> None:
    for failing in ("a", "b", "c"):
        scene.reset()
        fail_at(failing, ValueError())
        ProcessedEvent.objects.all().delete()
        deliver("/gocardless/", gocardless("a", "b", "c"))
        assert sorted(scene.handled) == ["a", "b", "c"]


def test_batch_with_an_event_that_is_not_ready_comes_again() -> None:
    fail_at("b", NotReady())

    answer = deliver("/gocardless/", gocardless("a", "b"))
    assert (answer.status_code, answer["Retry-After"]) == (503, "30")


def test_batch_with_a_dead_event_is_acknowledged() -> None:
    fail_at("b", PermanentError())

    assert deliver("/gocardless/", gocardless("a", "b")).status_code == 204
    assert states() == {"a": "processed", "b": "dead"}


def test_id_twice_in_a_batch_runs_once() -> None:  # F35, FR-091
    assert deliver("/gocardless/", gocardless("a", "b", "a")).status_code == 204
    assert sorted(scene.handled) == ["a", "b"]


def test_forged_item_stops_the_batch_before_any_runs() -> None:  # F34
    batch = adyen("psp1", "psp2", forged="psp2")

    assert deliver("/adyen/", batch).status_code == 401
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
