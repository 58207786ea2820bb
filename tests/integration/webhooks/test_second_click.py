"""One person acts on an event, and another one, or the same one, on what it was before.

The handler runs at most once for each deliberate act, and whoever comes second is told
what has happened.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.contrib import admin
from django.core.management import CommandError, call_command
from django.urls import path

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import PermanentError
from django_idempotency.webhooks.inbox import reopen, rerun
from tests.integration.webhooks import receivers
from tests.integration.webhooks.receivers import only, scene, steps
from tests.support.deliveries import deliver, stripe
from tests.support.staff import Form, colleague

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

urlpatterns = [*receivers.urlpatterns, path("admin/", admin.site.urls)]

LIST = "/admin/django_idempotency/processedevent/"
IGNORING = {"inline": "/payments/", "inbox": "/stored-payments/"}

Act = Callable[[], str]
"""Does what the person has decided, and returns what the person is told."""


def by_method(act: str) -> Act:
    seen = only()

    def decided() -> str:
        try:
            done: Any = {"rerun": rerun, "reopen": reopen}[act](seen, reason="mended")
        except ValueError as error:
            return str(error)
        return str(done)

    return decided


def by_command(act: str) -> Act:
    seen = only()
    options: dict[str, Any] = {act: seen.pk, "reason": "mended", "seen": seen.seen}

    def decided() -> str:
        try:
            call_command("process_events", **options)
        except CommandError as error:
            return str(error)
        return ""

    return decided


def by_admin(act: str) -> Act:
    action = {"rerun": "run_again", "reopen": "reopen"}[act]
    form = Form.shown(staff(), LIST, action, only())

    def decided() -> str:
        return form.send(reason="mended")

    return decided


def staff() -> Any:
    return colleague("view", "rerun", "reopen", of="processedevent")


ways = pytest.mark.parametrize("way", [by_method, by_command, by_admin])


def begin(state: str, mode: str) -> tuple[str, str]:
    """Make an event that people act on; return where it comes to, and the act."""
    url = IGNORING[mode] if state == "ignored" else f"/{mode}/"
    if state == "dead":
        scene.failures.append(PermanentError())
    deliver(url, stripe(type="other") if state == "ignored" else stripe())
    steps()
    assert only().state == state
    if state == "ignored":  # and now there is a handler
        ProcessedEvent.objects.update(payload=stripe().body)
    scene.events.clear()
    return url, "reopen" if state == "processed" else "rerun"


@ways
@pytest.mark.parametrize("state", ["dead", "ignored", "processed"])
@pytest.mark.parametrize("mode", ["inline", "inbox"])
@pytest.mark.parametrize("between", ["nothing", "a failure", "a delivery"])
@pytest.mark.parametrize("second", ["another", "the same"])
def test_handler_runs_at_most_once_for_each_act(
    way: Callable[[str], Act], state: str, mode: str, between: str, second: str
) -> None:
    url, act = begin(state, mode)
    first = way(act)
    again = way(act) if second == "another" else first
    if between == "a failure":
        scene.failures.append(PermanentError())
    first()
    if between == "a delivery":
        deliver(url, stripe())
        steps()
    told = again()
    for _ in range(2):
        deliver(url, stripe())
        steps()

    assert len(scene.events) == 1
    assert re.search("changed since you looked|sent more than once", told)
    assert [run["reason"] for run in only().reruns] == ["mended"]


@ways
@pytest.mark.parametrize("state", ["dead", "ignored", "processed"])
def test_whoever_looks_again_may_act_again(
    way: Callable[[str], Act], state: str
) -> None:
    url, act = begin(state, "inline")
    for number in (1, 2):
        if state != "processed":
            scene.failures.append(PermanentError())
        way(act)()
        deliver(url, stripe())
        assert len(scene.events) == number
        act = "rerun" if state != "processed" else "reopen"


@ways
@pytest.mark.parametrize(
    ("state", "act", "told"),
    [
        ("processed", "rerun", "reopen it"),
        ("dead", "reopen", "run it again instead"),
        ("ignored", "reopen", "run it again instead"),
    ],
)
def test_done_and_not_done_are_two_acts(
    way: Callable[[str], Act], state: str, act: str, told: str
) -> None:
    url, _ = begin(state, "inline")
    said = "" if way is by_admin else way(act)()
    if way is by_admin:
        action = {"rerun": "run_again", "reopen": "reopen"}[act]
        client = staff()
        data = {"action": action, "_selected_action": str(only().pk)}
        said = unescape(client.post(LIST, data, follow=True).content.decode())
        told = "not possible"
    deliver(url, stripe())

    assert told in said
    assert scene.events == []
    assert only().reruns == []


@pytest.mark.parametrize("act", ["rerun", "reopen"])
def test_command_shows_what_there_is_and_does_nothing_unseen(act: str) -> None:
    begin("dead", "inline")
    with pytest.raises(CommandError, match=r"dead after 1 attempt .*--seen dead:1:"):
        call_command("process_events", **{act: only().pk}, reason="mended")
    assert only().reruns == []


@pytest.mark.parametrize("mode", ["inline", "inbox"])
def test_reopened_event_waits_for_a_delivery_and_keeps_its_story(mode: str) -> None:
    """Whatever comes of that delivery."""
    url, _ = begin("processed", mode)
    reopen(only(), reason="lost", by="anna")
    assert only().state == "reopened"
    assert steps() == []
    scene.failures.append(ValueError())
    deliver(url, stripe())
    steps()

    assert only().state == "failed"
    ProcessedEvent.objects.exclude(next_attempt_at=None).update(
        next_attempt_at=only().received_at
    )
    deliver(url, stripe())
    steps()
    event = only()
    assert (event.state, event.attempts, event.uncounted_attempts) == (
        "processed",
        3,
        1,
    )
    assert [(run["by"], run["reason"]) for run in event.reruns] == [("anna", "lost")]


def test_reopened_event_has_all_its_attempts_again() -> None:
    deliver("/limited/", stripe())
    ProcessedEvent.objects.update(attempts=5)  # of five
    reopen(only(), reason="lost")
    scene.failures.append(ValueError())

    assert deliver("/limited/", stripe()).status_code == 500
    assert only().state == "failed"
