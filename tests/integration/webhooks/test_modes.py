"""Which events a receiver doesn't handle though they are right, and who hears of it."""

import logging
from functools import partial
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.dispatch import Signal

from django_idempotency import signals
from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import Event, providers, webhook
from django_idempotency.webhooks.endpoints import DEFAULT_MAX_ATTEMPTS
from django_idempotency.webhooks.inbox import Step, rerun
from django_idempotency.webhooks.profiles import FACTS
from tests.integration.webhooks.receivers import handle, marks, scene, states, steps
from tests.support.cases import cases
from tests.support.deliveries import SECRET, adyen, deliver, github, stripe
from tests.testapp.models import Order

pytestmark = marks

LIVE, TEST = partial(stripe, livemode=True), partial(stripe, livemode=False)
MODELESS = partial(stripe, livemode=None)
ODD = partial(stripe, livemode="perhaps")


@cases(
    "path, make, is_handled",
    {
        "live for live": ("/live/", LIVE, True),
        "test for live": ("/live/", TEST, False),
        "test of a connected account": ("/live/", partial(TEST, account="a"), False),
        "unknown for live": ("/live/", MODELESS, False),
        "odd for live": ("/live/", ODD, False),
        "test for test": ("/test/", TEST, True),
        "live for test": ("/test/", LIVE, False),
        "live for any": ("/inline/", LIVE, True),
        "test for any": ("/inline/", TEST, True),
        "inbox, live for live": ("/live-inbox/", LIVE, True),
        "inbox, test for live": ("/live-inbox/", TEST, False),
        "batch, test for live": ("/live-adyen/", partial(adyen, live="false"), False),
        "batch, live for live": ("/live-adyen/", adyen, True),
    },
)
def test_event_of_the_other_mode_is_stored_and_never_handled(
    path: str, make: Any, is_handled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert deliver(path, make("evt_1")).status_code == 200
        steps()

    (event,) = ProcessedEvent.objects.all()
    assert event.state == ("processed" if is_handled else "ignored")
    assert (event.payload is None) == is_handled
    assert Order.objects.count() == len(scene.events) == int(is_handled)
    ignored = [
        each for each in caplog.records if vars(each).get("action") == "event_ignored"
    ]
    assert len(ignored) == (0 if is_handled else 1)
    if not is_handled:
        assert "livemode" in ignored[0].getMessage()
        assert rerun(event, reason="by mistake") is Step.IGNORED
        assert scene.events == []


def test_mode_is_told_to_the_handler() -> None:
    for path, make in (("/inline/", LIVE), ("/inbox/", TEST), ("/inbox/", MODELESS)):
        deliver(path, make("evt_1"))
        steps()
    assert [event.livemode for event in scene.events] == [True, False, None]


def test_mode_that_the_profile_cant_read_is_refused() -> None:
    receiver = webhook(providers.PADDLE, secrets=SECRET, livemode=True)
    with pytest.raises(ImproperlyConfigured, match="livemode="):
        receiver(handle)


def test_handler_is_told_what_nobody_signed() -> None:
    deliver("/inline/", stripe())
    deliver("/github/", github())
    steps()

    assert [event.unsigned for event in scene.events] == [
        frozenset(),
        frozenset({"id", "type", "account"}),
    ]


@cases(
    "columns, signal, unsigned",
    {
        "given up": (
            {"attempts": DEFAULT_MAX_ATTEMPTS},
            signals.event_dead,
            {"id", "type", "account"},
        ),
        "nobody's": ({"endpoint": "gone"}, signals.event_failed, {*FACTS}),
    },
)
def test_event_that_no_handler_sees_says_what_nobody_signed(
    columns: dict[str, Any], signal: Signal, unsigned: set[str]
) -> None:
    """If nothing is known of its provider, that is everything."""
    heard: list[Event] = []

    def listen(event: Event, **more: Any) -> None:
        heard.append(event)

    deliver("/github/", github())
    ProcessedEvent.objects.update(**columns)
    signal.connect(listen)
    try:
        steps()
    finally:
        signal.disconnect(listen)

    assert [event.unsigned for event in heard] == [unsigned]


@pytest.mark.parametrize("path", ["/payments/", "/rest/", "/stored-payments/"])
def test_type_that_nobody_handles_is_told(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Event] = []

    def listen(event: Event, **more: Any) -> None:
        assert states() == {"evt_1": "ignored"}
        heard.append(event)

    signals.event_ignored.connect(listen)
    try:
        for _ in range(2):
            deliver(path, stripe(type="invoice.forgotten"))
            steps()
    finally:
        signals.event_ignored.disconnect(listen)

    assert [event.type for event in heard] == ["invoice.forgotten"]
    (line,) = [
        each for each in caplog.records if vars(each).get("action") == "event_ignored"
    ]
    assert line.levelno == logging.WARNING
    assert "invoice.forgotten" in line.getMessage()
