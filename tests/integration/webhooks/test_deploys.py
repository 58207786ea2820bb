"""What was stored by one release is run by the next one, however that has changed.

An event in the inbox has been acknowledged, so nobody will send it again.
"""

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from django.test import RequestFactory

from django_idempotency.checks.databases import check_live_databases
from django_idempotency.checks.webhooks import check_backlog
from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import (
    Event,
    NotReady,
    PermanentError,
    Profile,
    providers,
    webhook,
)
from django_idempotency.webhooks.endpoints import DEFAULT_MAX_ATTEMPTS, _endpoints
from django_idempotency.webhooks.inbox import rerun
from tests.integration.checks.messages import only as only_message
from tests.integration.webhooks.receivers import (
    handle,
    make_due,
    marks,
    only,
    scene,
    states,
    steps,
)
from tests.support.cases import cases
from tests.support.deliveries import (
    SECRET,
    Sent,
    deliver,
    github,
    gocardless,
    stripe,
)
from tests.testapp.models import Order

pytestmark = marks

Deploy = Callable[[Profile, str], None]


def deploy(profile: Profile, name: str, **options: Any) -> None:
    """Declare the receiver, as at the start of a process."""
    declared: dict[str, Any] = {"secrets": SECRET, "inbox": True, **options}
    webhook(profile, endpoint=name, **declared)(handle)


def identity_that_fails(event: Event) -> str:
    raise KeyError("a field that older events don't have")


def remove(profile: Profile, name: str) -> None:
    del _endpoints[name]


def rename(profile: Profile, name: str) -> None:
    remove(profile, name)
    deploy(profile, f"{name}-renamed")


def remove_handler(profile: Profile, name: str) -> None:
    deploy(profile, name)
    endpoint = _endpoints[name]
    _endpoints[name] = replace(endpoint, handles=lambda event: False)


def with_profile(**changes: Any) -> Deploy:
    def deploy_it(profile: Profile, name: str) -> None:
        deploy(replace(profile, **changes), name)

    return deploy_it


CHANGES: dict[str, Deploy] = {
    "identity": lambda profile, name: deploy(
        profile, name, identity=lambda event: f"{event.type}:{event.attempt}"
    ),
    "identity that fails": lambda profile, name: deploy(
        profile, name, identity=identity_that_fails
    ),
    "account": with_profile(account=("type", "created")),
    "account that isn't there": with_profile(account="header:X-Account"),
    "account that can't be read": with_profile(account=("data", "links", "list")),
    "id": with_profile(id=("type", "resource_type", "action")),
    "id that isn't there": with_profile(id="header:X-Id"),
    "profile's name": with_profile(name="another"),
    "batch or not": with_profile(items="list"),
    "form or not": with_profile(is_form=True),
    "mode": lambda profile, name: deploy(
        replace(profile, livemode="data.live"), name, livemode=True
    ),
    "inline": lambda profile, name: deploy(profile, name, inbox=False),
    "renamed": rename,
    "removed": remove,
    "handler removed": remove_handler,
}
RUN = ("identity", "account", "id", "profile's name", "inline")
"""What begins so is run by the new release; what doesn't waits, and is named."""

# Signed when they are delivered: a timestamp is believed for five minutes.
BACKLOGS: dict[str, tuple[Profile, str, list[Callable[[], Sent]]]] = {
    "single": (
        providers.STRIPE,
        "/inbox/",
        [partial(stripe, "evt_1"), partial(stripe, "evt_2")],
    ),
    "batch": (
        providers.GOCARDLESS,
        "/gocardless-inbox/",
        [partial(gocardless, "a", "b", "c")],
    ),
    "header": (
        providers.GITHUB,
        "/github/",
        [partial(github, "1", body=b'{"n": 1}'), partial(github, "2", body=b"{}")],
    ),
}


@pytest.fixture(autouse=True)
def _as_before() -> Any:
    before = dict(_endpoints)
    yield
    _endpoints.clear()
    _endpoints.update(before)


@pytest.mark.parametrize("attempts", [0, DEFAULT_MAX_ATTEMPTS - 2])
@pytest.mark.parametrize("change", list(CHANGES))
@cases("profile, path, sent", BACKLOGS)
def test_backlog_is_run_once_or_named_and_never_given_up(
    profile: Profile,
    path: str,
    sent: Any,
    change: str,
    attempts: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for make in sent:
        assert deliver(path, make()).status_code in (200, 204)
    stored = states()
    assert len(stored) > 1
    ProcessedEvent.objects.update(attempts=attempts)
    name = f"tested-{path.strip('/')}"
    old = _endpoints[name]

    CHANGES[change](profile, name)
    for _ in range(4):
        make_due()
        steps()

    assert "dead" not in states().values()
    waiting = ProcessedEvent.objects.exclude(payload=None)
    if change.startswith(RUN):
        assert not waiting
    for event in waiting:
        named = [
            line.levelno >= logging.WARNING
            for line in caplog.records
            if vars(line).get("row_id") == event.pk and name in str(vars(line))
        ]
        assert any(named), (event.state, event.attempts, caplog.text)
    assert Order.objects.count() == len(stored) - len(waiting)
    # The release is taken back.
    _endpoints[name] = old
    for event in waiting.filter(state="ignored"):
        rerun(event, reason="its handler is back")
    make_due()
    steps()
    assert states() == dict.fromkeys(stored, "processed")
    # By its place in the payload, since another profile has another id for it.
    assert set(Counter(event.raw for event in scene.events).values()) == {1}
    assert Order.objects.count() == len(stored) == len(scene.events)


@pytest.mark.parametrize("state", ["received", "failed"])
@cases(
    "error, status, becomes",
    {
        "handled": (None, 200, "processed"),
        "failed": (ValueError, 500, "waits"),
        "not ready": (NotReady, 503, "waits"),
        "given up": (PermanentError, 200, "dead"),
    },
)
def test_receiver_that_is_inline_now_takes_what_waits_in_its_inbox(
    state: str, error: Any, status: int, becomes: str
) -> None:
    """If the provider sends it again. Until it is done, the inbox has it, too."""
    deliver("/inbox/", stripe())
    if state == "failed":
        scene.failures.append(ValueError())
        steps()
    scene.reset()
    deploy(providers.STRIPE, "tested-inbox", inbox=False)
    view = webhook(providers.STRIPE, secrets=SECRET, endpoint="tested-inbox")(handle)
    if error:
        scene.failures.append(error())

    sent = stripe()
    request = RequestFactory().post(
        "/", sent.body, "application/json", headers={**sent.headers}
    )
    assert view(request).status_code == status

    event = only()
    assert len(scene.events) == 1
    assert Order.objects.count() == int(becomes == "processed")
    assert (event.state, event.next_attempt_at is None) == (
        (state, False) if becomes == "waits" else (becomes, True)
    )
    assert (event.payload is None) == (becomes == "processed")
    make_due()
    steps()
    assert states() == {"evt_1": "dead" if becomes == "dead" else "processed"}
    assert Order.objects.count() == int(becomes != "dead")


@cases(
    "change, said",
    {
        "as it was": (lambda profile, name: None, None),
        "inline": (CHANGES["inline"], ("W036", "process_events --until-empty")),
        "removed": (CHANGES["removed"], ("W037", 'endpoint="tested-inbox"')),
        "renamed": (CHANGES["renamed"], ("W037", 'endpoint="tested-inbox"')),
    },
)
def test_check_names_what_waits_for_nobody(change: Deploy, said: Any) -> None:
    for event_id in ("evt_1", "evt_2"):
        deliver("/inbox/", stripe(event_id))
    change(providers.STRIPE, "tested-inbox")

    messages = [
        each
        for each in check_live_databases(None, databases=["default"])
        if str(each.id)[-4:] in ("W036", "W037")
    ]
    if said is None:
        assert messages == []
        return
    message = only_message(messages)
    number, remedy = said
    assert str(message.id).endswith(number)
    assert "2 events" in message.msg
    assert "'tested-inbox'" in message.msg
    assert remedy in str(message.hint)
    ProcessedEvent.objects.all().delete()
    assert [*check_backlog("default")] == []
