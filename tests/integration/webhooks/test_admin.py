"""The admin of the webhook events: to look at, and to run again with a reason."""

from __future__ import annotations

import re
import uuid

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import path

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import PermanentError
from tests.deliveries import deliver, stripe
from tests.integration.staff import colleague
from tests.integration.webhooks import receivers
from tests.integration.webhooks.events import only
from tests.integration.webhooks.receivers import scene
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls(__name__),
]

urlpatterns = [*receivers.urlpatterns, path("admin/", admin.site.urls)]

LIST = "/admin/django_idempotency/processedevent/"


@pytest.fixture
def viewer() -> Client:
    return colleague("view", of="processedevent")


@pytest.fixture
def operator() -> Client:
    return colleague("view", "rerun", of="processedevent")


def bury() -> ProcessedEvent:
    scene.failures.append(PermanentError())
    deliver("/inline/", stripe("evt_dead"))
    return only()


def run_again(client: Client, event: ProcessedEvent, reason: str) -> str:
    data = {
        "action": "run_again",
        "_selected_action": str(event.pk),
        "reason": reason,
    }
    return client.post(LIST, data, follow=True).content.decode()


def found(client: Client, term: str) -> int:
    page = client.get(LIST, {"q": term})
    results: int = page.context["cl"].result_count
    return results


def test_events_are_listed(viewer: Client) -> None:
    deliver("/inline/", stripe("evt_1"))
    page = viewer.get(LIST)
    text = re.sub(r"<[^>]*>|\s+", " ", page.content.decode())

    assert page.context["cl"].result_count == 1
    assert re.search(
        rf" {only().endpoint}\s+{only().event_type}\s+processed\s+1 ", text
    )


def test_dead_event_shows_its_payload(viewer: Client) -> None:
    event = bury()
    page = viewer.get(f"{LIST}{event.pk}/change/").content.decode()

    assert "evt_dead" in page
    assert "PermanentError" in page


def test_processed_event_says_that_its_payload_is_gone(viewer: Client) -> None:
    deliver("/inline/", stripe("evt_1"))
    page = viewer.get(f"{LIST}{only().pk}/change/").content.decode()

    assert "Cleared, since the event is done." in page


def test_event_is_found_by_its_id_or_identity(viewer: Client) -> None:
    event = bury()
    parts = (event.endpoint, event.source, event.account, event.event_id)

    assert found(viewer, str(event.pk)) == 1
    assert found(viewer, "|".join(parts)) == 1
    assert found(viewer, str(uuid.uuid4())) == 0


def test_part_of_an_identity_is_no_search(viewer: Client) -> None:
    bury()
    page = viewer.get(LIST, {"q": "evt_dead"}, follow=True).content.decode()

    assert "Search for an id" in page


def test_nothing_can_be_added_or_changed(operator: Client) -> None:
    event = bury()
    change = operator.post(f"{LIST}{event.pk}/change/", {"state": "processed"})

    assert operator.get(f"{LIST}add/").status_code == 403
    assert change.status_code == 403
    assert only().state == "dead"


def test_dead_event_runs_again_with_a_reason(operator: Client) -> None:
    page = run_again(operator, bury(), "the handler is mended")

    assert "processed" in page
    assert only().state == "processed"
    assert (only().reruns[0]["by"], only().reruns[0]["reason"]) == (
        "colleague",
        "the handler is mended",
    )
    assert Order.objects.count() == 1


def test_reason_is_needed(operator: Client) -> None:
    page = run_again(operator, bury(), " ")

    assert "Say why" in page
    assert (only().state, Order.objects.count()) == ("dead", 0)


def test_running_again_takes_a_permission_of_its_own() -> None:
    client = colleague("view", "delete", of="processedevent")
    run_again(client, bury(), "the handler is mended")

    assert (only().state, Order.objects.count()) == ("dead", 0)
