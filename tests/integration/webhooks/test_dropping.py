"""A dead event whose payload is dropped: gone from the table, and never run again."""

import io
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.urls import path

from django_idempotency import signals
from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import PermanentError
from django_idempotency.webhooks.inbox import drop, reopen, rerun
from tests.factories import ProcessedEventFactory
from tests.integration.webhooks import receivers
from tests.integration.webhooks.receivers import let_expire, only, scene, steps
from tests.support.cases import cases
from tests.support.deliveries import deliver, stripe
from tests.support.staff import Form, colleague
from tests.testapp.models import Order

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

urlpatterns = [path("admin/", admin.site.urls), *receivers.urlpatterns]

NAME = "Ann-Karenina-4711"
WHO: dict[str, Any] = {"by": "bob", "reason": "letter of 3 May"}
EVENTS = "/admin/django_idempotency/processedevent/"


def dead(url: str = "/inbox/") -> ProcessedEvent:
    scene.failures.append(PermanentError(f"no such customer: {NAME}"))
    deliver(url, sent())
    steps()
    return only()


def ignored(url: str = "/payments/") -> ProcessedEvent:
    deliver(url, sent(type="unheard.of"))
    steps()
    return only()


def sent(**fields: Any) -> Any:
    return stripe(data={"object": {"id": "in_1", "name": NAME}}, **fields)


MADE: dict[str, tuple[str, Callable[[], ProcessedEvent]]] = {
    "dead inline": ("/inline/", lambda: dead("/inline/")),
    "dead in the inbox": ("/inbox/", lambda: dead("/inbox/")),
    "ignored inline": ("/payments/", lambda: ignored("/payments/")),
    "ignored in the inbox": (
        "/stored-payments/",
        lambda: ignored("/stored-payments/"),
    ),
}
each_event = pytest.mark.parametrize("made", MADE)


def command(event: ProcessedEvent, *options: str) -> str:
    out = io.StringIO()
    call_command(
        *("idempotency_forget", "--event", event.event_id, "--reason", "letter"),
        *options,
        stdout=out,
    )
    return out.getvalue()


def by_page(event: ProcessedEvent) -> None:
    url = f"{EVENTS}{event.pk}/decide/drop/"
    Form.on_page(colleague("view", "drop", of="processedevent"), url).send(
        reason="letter of 3 May"
    )


DROPS: dict[str, Callable[[ProcessedEvent], Any]] = {
    "function": lambda event: drop(event, **WHO),
    "command": command,
    "page": by_page,
}


@each_event
@cases("drop_it", DROPS)
def test_dropped_event_is_gone_and_never_runs_again(
    made: str, drop_it: Callable[[ProcessedEvent], Any]
) -> None:
    url, make = MADE[made]
    make()
    done = Order.objects.count()
    drop_it(only())

    event = only()
    assert (event.state, event.payload, event.dead_since) == ("dropped", None, None)
    assert NAME not in str(ProcessedEvent.objects.values().get())
    for again in (rerun, reopen):
        with pytest.raises(ValueError, match="dropped, so there is nothing to run"):
            again(event, reason="want it")
    with suppress(CommandError):
        call_command(
            *("process_events", "--rerun", str(event.pk), "--reason", "want it"),
            *("--seen", event.seen),
            stdout=io.StringIO(),
        )
    assert deliver(url, sent()).status_code == 200
    assert steps() == []
    assert (only().state, Order.objects.count()) == ("dropped", done)
    assert not ProcessedEvent.objects.dead().exists()

    let_expire(after=timedelta(days=36))
    assert ProcessedEvent.objects.expired().exists()
    call_command("purge_idempotency_keys", stdout=io.StringIO())
    assert not ProcessedEvent.objects.exists()


@cases(
    "traits, why",
    {
        "processed": ({}, "payload is gone"),
        "reopened": ({"reopened": True}, "payload is gone"),
        "failed": ({"failed": True}, "next delivery"),
        "due": ({"due": True}, "waits in the inbox"),
        "dropped": ({"state": "dropped"}, "dropped already"),
    },
)
def test_only_what_is_given_up_or_ignored_can_be_dropped(
    traits: dict[str, Any], why: str
) -> None:
    event = ProcessedEventFactory.create(**traits)
    before = ProcessedEvent.objects.values().get()
    with pytest.raises(ValueError, match=why):
        drop(event, **WHO)
    with pytest.raises(CommandError, match=why):
        command(event)
    assert ProcessedEvent.objects.values().get() == before


def test_event_is_dropped_only_as_it_was_seen() -> None:
    seen = dead()
    scene.failures.append(ValueError())
    rerun(only(), reason="mended")
    with pytest.raises(ValueError, match="changed since you looked"):
        drop(seen, **WHO)
    assert only().payload is not None
    with pytest.raises(ValueError, match="Say why its payload is dropped"):
        drop(only(), reason=" ")
    drop(only(), **WHO)
    with pytest.raises(ValueError, match=r"bob dropped its payload: letter of 3 May"):
        rerun(seen, reason="mended again")


def test_dropping_is_told(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Any] = []

    def hear(event: Any, by: str, reason: str, **more: Any) -> None:
        heard.append((event.pk, by, reason))

    event = dead()
    signals.dropped.connect(hear)
    with caplog.at_level(logging.WARNING, "django_idempotency"):
        drop(event, **WHO)
    signals.dropped.disconnect(hear)

    assert heard == [(event.pk, "bob", "letter of 3 May")]
    assert "webhook dropped: tested-inbox invoice.paid evt_1" in caplog.text
    (*_, note) = only().reruns
    assert (note["what"], note["by"]) == ("dropped", "bob")
    out = io.StringIO()
    call_command("idempotency_explain", "evt_1", stdout=out)
    assert "its payload was dropped" in out.getvalue()
    assert "bob dropped its payload. letter of 3 May" in out.getvalue()


def test_dropping_has_a_permission_of_its_own_and_is_asked_first() -> None:
    event = dead()
    url = f"{EVENTS}{event.pk}/decide/drop/"
    without = colleague("view", "delete", "rerun", "reopen", of="processedevent")
    page = f"{EVENTS}{event.pk}/change/"
    assert "Drop its payload" not in without.get(page).content.decode()
    assert without.get(url).status_code == 403

    client = colleague("view", "drop", of="processedevent")
    assert "Drop its payload…" in client.get(page).content.decode()
    assert "can't be run again" in client.get(url).content.decode().replace(
        "&#x27;", "'"
    )
    assert "This field is required" in Form.on_page(client, url).send(reason="")
    assert only().payload is not None
    story = Form.on_page(client, url).send(reason="letter of 3 May")
    assert "colleague dropped its payload." in story
    assert "Dropped: it can't be run again." in story
    assert "Drop its payload…" not in story
    assert "letter of 3 May" in LogEntry.objects.get().change_message


def test_command_looks_first_and_finds_by_row() -> None:
    event = dead()
    assert command(event, "--dry-run") == "Would drop 1 payload.\n"
    assert only().payload is not None
    event.event_id = str(event.pk)
    assert command(event) == "Dropped 1 payload.\n"
    event.event_id = "evt_unknown"
    assert command(event) == "Dropped 0 payloads.\n"
