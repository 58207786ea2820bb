"""What makes two deliveries the same event, and for how long."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.test import RequestFactory

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import (
    Event,
    PermanentError,
    Profile,
    WebhookView,
    on,
    providers,
    webhook,
)
from django_idempotency.webhooks.inbox import Step, process_next
from tests.integration.webhooks.receivers import (
    handle,
    let_expire,
    marks,
    only,
    scene,
    states,
    steps,
)
from tests.support.cases import cases
from tests.support.deliveries import SECRET, Sent, deliver, github, gocardless, stripe
from tests.testapp.models import Order

pytestmark = marks

# Signed when it is delivered: a timestamp is believed for five minutes.
Delivered = tuple[str, Callable[[], Sent]]


def inline(event_id: str = "evt_1", **fields: Any) -> Delivered:
    return "/inline/", partial(stripe, event_id, **fields)


INLINE, GITHUB = inline(), ("/github/", github)


@cases(
    "one, other, is_one_event",
    {
        "F27 the endpoint's own": (INLINE, ("/second/", stripe), False),
        "F26 FR-089 the provider's own": (
            INLINE,
            ("/gocardless/", partial(gocardless, "evt_1")),
            False,
        ),
        "F27 the hook's own": (GITHUB, ("/github/", partial(github, hook="2")), False),
        "F28 FR-089 the mode's own": (INLINE, inline(livemode=False), False),
        "F28 FR-089 the account's own": (INLINE, inline(account="acct_2"), False),
        "F28 FR-089 the context's own": (INLINE, inline(context="ctx"), False),
        "F31 equal bodies": (GITHUB, ("/github/", partial(github, "guid-2")), False),
        "F29 no own identity": (INLINE, inline("evt_2"), False),
        "F30 signed anew": (inline(age=100), INLINE, True),
        "F29 F30 FR-090 own identity": (
            ("/by-object/", stripe),
            ("/by-object/", partial(stripe, "evt_2")),
            True,
        ),
        "own identity in the inbox": (
            ("/by-object-inbox/", stripe),
            ("/by-object-inbox/", partial(stripe, "evt_2")),
            True,
        ),
    },
)
def test_deliveries_are_one_event_or_two(
    one: Delivered, other: Delivered, is_one_event: bool
) -> None:
    for path, sign in (one, other, one, other):
        assert 200 <= deliver(path, sign()).status_code < 300
    steps()

    assert Order.objects.count() == len(scene.events) == (1 if is_one_event else 2)
    assert scene.events[0].id in states()


@pytest.mark.parametrize("nothing", [None, "", 0, 7, b"x"])
def test_identity_that_names_nothing_is_an_error(nothing: Any) -> None:  # FR-090
    scene.act = lambda event: nothing

    assert deliver("/by-nothing/", stripe()).status_code == 500
    assert not ProcessedEvent.objects.exists()


@pytest.mark.parametrize("path", ["/inline/", "/inbox/"])
def test_long_ids_with_a_common_beginning_are_different(path: str) -> None:  # F25
    ids = ["e" * 300 + "1", "e" * 300 + "2", "e" * 5000, "e" * 255]
    for event_id in ids * 2:
        assert deliver(path, stripe(event_id)).status_code == 200
    steps()

    assert Order.objects.count() == 4
    assert all(len(each) < 256 for each in states())
    assert "e" * 255 in states()


def test_two_receivers_cant_have_one_name() -> None:
    def another(event: Event) -> None: ...

    receiver = webhook(providers.STRIPE, secrets=SECRET, endpoint="tested-inline")
    with pytest.raises(ImproperlyConfigured, match="different names"):
        receiver(another)
    receiver(handle)  # declared again, as by a module that is imported again


def made_by_a_function(name: str | None, amount: int) -> Any:
    @webhook(providers.STRIPE, secrets=SECRET, endpoint=name, inbox=True)
    def handle_for_tenant(event: Event) -> None:
        Order.objects.create(amount=amount)

    return handle_for_tenant


def made_of_a_lambda(name: str | None, amount: int) -> Any:
    receiver = webhook(providers.STRIPE, secrets=SECRET, endpoint=name, inbox=True)
    return receiver(lambda event: Order.objects.create(amount=amount))


def made_as_a_class(name: str | None, amount: int) -> Any:
    class ForTenant(WebhookView):
        profile = providers.STRIPE
        secrets = SECRET
        endpoint = name
        inbox = True

        @on("invoice.paid")
        def paid(self, event: Event) -> None:
            Order.objects.create(amount=amount)

    ForTenant.as_view()  # a class may be in the URLconf twice
    return ForTenant.as_view()


MAKERS = [made_by_a_function, made_of_a_lambda, made_as_a_class]


@pytest.mark.parametrize("make", MAKERS)
def test_receivers_from_one_function_cant_have_one_name(make: Any) -> None:
    """Else one tenant's event would run in another one's handler."""
    name = f"tested-{make.__name__}"
    make(name, 1)
    with pytest.raises(ImproperlyConfigured, match=r'endpoint=f"refunds-\{tenant\}"'):
        make(name, 2)


@pytest.mark.parametrize("make", MAKERS)
def test_receivers_with_names_of_their_own_handle_their_own_events(make: Any) -> None:
    views = [make(f"tested-{make.__name__}-{amount}", amount) for amount in (3, 4)]
    for number, view in enumerate(views):
        sent = stripe(f"evt_{number}")
        request = RequestFactory().post(
            "/", sent.body, "application/json", headers={**sent.headers}
        )
        assert view(request).status_code == 200
        steps()
        assert Order.objects.latest("pk").amount == 3 + number


@cases(
    "profile, options, sentence",
    {
        "long name": (providers.STRIPE, {"endpoint": "e" * 256}, "1 to 255"),
        "no attempt": (providers.STRIPE, {"max_attempts": 0}, "1 or more"),
        "order inline": (providers.STRIPE, {"ordered": True}, "inbox=True"),
        "order of nothing": (
            providers.GITHUB,
            {"ordered": True, "inbox": True},
            'object_key="',
        ),
    },
)
def test_what_no_receiver_can_keep_is_refused(
    profile: Profile, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=sentence):
        webhook(profile, secrets=SECRET, **{"endpoint": "e", **options})(print)


# How long an event is recognised, and what is never deleted.


def purge(capsys: pytest.CaptureFixture[str]) -> str:
    call_command("purge_idempotency_keys")
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("days", "orders", "purged"), [(3, 1, 0), (31, 1, 0), (36, 2, 1)]
)
def test_event_is_recognised_for_longer_than_any_provider_repeats_it(
    days: int, orders: int, purged: int, capsys: pytest.CaptureFixture[str]
) -> None:  # FR-074, F43
    deliver("/inline/", stripe())
    let_expire(after=timedelta(days=days))

    assert purge(capsys) == (
        f"Purged 0 idempotency records, {purged} processed events.\n"
    )
    assert deliver("/inline/", stripe()).status_code == 200
    assert Order.objects.count() == orders


@pytest.mark.parametrize("path", ["/inline/", "/inbox/"])
def test_expired_event_begins_a_new_life_without_a_purge(path: str) -> None:
    deliver(path, stripe())
    process_next()
    ProcessedEvent.objects.update(attempts=7, last_error="OldError", reruns=["old"])
    let_expire(after=timedelta(days=36))

    assert deliver(path, stripe(created=100_000_000)).status_code == 200
    process_next()
    event = only()
    assert (event.state, event.attempts, event.last_error) == ("processed", 1, "")
    assert event.reruns == []
    assert event.occurred_at is not None
    assert event.occurred_at.year == 1973
    assert event.expires_at - event.received_at > timedelta(days=34)


def test_what_is_not_done_is_never_purged(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor takes a new delivery the place of a payload that waits for a person."""
    deliver("/inbox/", stripe("waiting"))
    scene.failures.append(PermanentError())
    deliver("/inline/", stripe("dead"))
    let_expire(after=timedelta(days=400))

    assert purge(capsys) == "Purged 0 idempotency records, 0 processed events.\n"
    for path, event_id in (("/inbox/", "waiting"), ("/inline/", "dead")):
        assert deliver(path, stripe(event_id)).status_code == 200
    assert states() == {"waiting": "received", "dead": "dead"}
    assert steps() == [Step.PROCESSED]
    assert scene.handled == ["dead", "waiting"]
