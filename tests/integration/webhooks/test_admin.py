"""The admin of the webhook events: to look at, and to run again with a reason."""

import re
import uuid

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import path

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import PermanentError
from tests.integration.webhooks import receivers
from tests.integration.webhooks.receivers import only, scene
from tests.support.cases import cases
from tests.support.deliveries import deliver, stripe
from tests.support.staff import colleague
from tests.testapp.models import Order

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

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
    data = {"action": "run_again", "_selected_action": str(event.pk), "reason": reason}
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
    assert re.search(r" tested-inline\s+invoice\.paid\s+processed\s+1 ", text)


def test_event_shows_its_payload_until_it_is_done(viewer: Client) -> None:
    event = bury()
    dead = viewer.get(f"{LIST}{event.pk}/change/").content.decode()
    ProcessedEvent.objects.update(state="processed", payload=None)
    done = viewer.get(f"{LIST}{event.pk}/change/").content.decode()

    assert ("evt_dead" in dead, "PermanentError" in dead) == (True, True)
    assert "Cleared, since the event is done." in done


def test_event_is_found_by_its_id_or_identity(viewer: Client) -> None:
    event = bury()
    parts = (event.endpoint, event.source, event.account, event.event_id)
    terms = (str(event.pk), "|".join(parts), str(uuid.uuid4()))
    part = viewer.get(LIST, {"q": "evt_dead"}, follow=True).content.decode()

    assert [found(viewer, term) for term in terms] == [1, 1, 0]
    assert "Search for an id" in part


def test_nothing_can_be_added_or_changed(operator: Client) -> None:
    event = bury()
    change = operator.post(f"{LIST}{event.pk}/change/", {"state": "processed"})

    assert operator.get(f"{LIST}add/").status_code == 403
    assert change.status_code == 403
    assert only().state == "dead"


def test_dead_event_runs_again_with_a_reason(operator: Client) -> None:
    page = run_again(operator, bury(), "the handler is mended")
    (run,) = only().reruns

    assert "processed" in page
    assert only().state == "processed"
    assert (run["by"], run["reason"]) == ("colleague", "the handler is mended")
    assert Order.objects.count() == 1


@cases(
    "permission, reason, sentence",
    {
        "no reason": ("rerun", " ", "Say why"),
        "no permission of its own": ("delete", "the handler is mended", ""),
    },
)
def test_running_again_takes_a_reason_and_a_permission(
    permission: str, reason: str, sentence: str
) -> None:
    client = colleague("view", permission, of="processedevent")

    assert sentence in run_again(client, bury(), reason)
    assert (only().state, Order.objects.count()) == ("dead", 0)
