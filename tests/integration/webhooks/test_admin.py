"""The admin of the webhook events: to look at, and to run again with a reason."""

import re
import uuid

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import path
from django.utils.text import capfirst

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import PermanentError
from tests.integration.webhooks import receivers
from tests.integration.webhooks.receivers import only, scene
from tests.support.deliveries import deliver, stripe
from tests.support.staff import Form, colleague
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
    return Form.shown(client, LIST, "run_again", event).send(reason=reason)


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

    assert [found(viewer, term) for term in terms] == [1, 1, 0]


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


def test_running_again_takes_a_reason(operator: Client) -> None:
    assert "Say why" in run_again(operator, bury(), " ")
    assert (only().state, Order.objects.count()) == ("dead", 0)


def test_page_asks_about_what_can_be_done_and_names_the_rest(operator: Client) -> None:
    dead = bury()
    deliver("/inline/", stripe("evt_done"))
    done = ProcessedEvent.objects.get(event_id="evt_done")
    data = {"action": "run_again", "_selected_action": [str(dead.pk), str(done.pk)]}
    page = operator.post(LIST, data).content.decode()

    assert f'name="seen-{dead.pk}" value="{dead.seen}"' in page
    assert f'name="seen-{done.pk}"' not in page
    assert capfirst(f"{done.pk}: not possible, processed after 1 attempt") in page
    assert 'name="idempotency_key"' in page
    assert (only_dead().state, scene.handled) == ("dead", ["evt_dead", "evt_done"])


def only_dead() -> ProcessedEvent:
    return ProcessedEvent.objects.get(event_id="evt_dead")
