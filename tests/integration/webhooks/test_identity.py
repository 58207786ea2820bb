"""What makes two deliveries the same event, and what doesn't."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import Event, inbox, providers, webhook
from tests.deliveries import SECRET, Sent, deliver, github, gocardless, stripe
from tests.integration.webhooks.events import only, states
from tests.integration.webhooks.receivers import scene
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.integration.webhooks.receivers"),
]


def run(*deliveries: tuple[str, Sent]) -> int:
    """Deliver, expect 2xx, and return how many orders there are."""
    for path, sent in deliveries:
        assert 200 <= deliver(path, sent).status_code < 300
    return Order.objects.count()


def test_id_is_the_endpoints_own() -> None:  # F27
    assert run(("/inline/", stripe()), ("/second/", stripe())) == 2


def test_id_is_the_providers_own() -> None:  # F26, FR-089
    assert run(("/inline/", stripe("123")), ("/gocardless/", gocardless("123"))) == 2


def test_id_is_the_hooks_own() -> None:  # F27
    for hook in ("1", "2", "2"):
        deliver("/github/", github(hook=hook))
    assert ProcessedEvent.objects.count() == 2


@pytest.mark.parametrize(
    "other", [{"livemode": False}, {"account": "acct_2"}, {"context": "ctx"}]
)
def test_id_is_the_accounts_own(other: dict[str, Any]) -> None:  # F28, FR-089
    assert run(("/inline/", stripe()), ("/inline/", stripe(**other))) == 2


def test_equal_bodies_with_different_ids_are_different() -> None:  # F31
    for delivery_id in ("guid-1", "guid-2"):
        deliver("/github/", github(delivery_id))
    while inbox.process_next() is not inbox.Step.NOTHING_DUE:
        pass
    assert Order.objects.count() == 2


def test_retry_with_a_new_signature_is_the_same() -> None:  # F30
    assert run(("/inline/", stripe(age=100)), ("/inline/", stripe())) == 1


def test_own_identity_makes_different_ids_one_event() -> None:  # F29, F30, FR-090
    deliveries = [("/by-object/", stripe(f"evt_{number}")) for number in range(5)]
    assert run(*deliveries) == 1
    assert only().event_id == "evt_0"


def test_without_own_identity_different_ids_are_different() -> None:  # F29
    assert run(("/inline/", stripe("evt_1")), ("/inline/", stripe("evt_2"))) == 2


def test_own_identity_finds_its_event_in_the_inbox() -> None:
    for event_id in ("evt_1", "evt_2"):
        deliver("/by-object-inbox/", stripe(event_id))
    assert inbox.process_next() is inbox.Step.PROCESSED
    assert inbox.process_next() is inbox.Step.NOTHING_DUE
    assert scene.handled == ["evt_1"]


@pytest.mark.parametrize("nothing", [None, "", 0, 7, b"x"])
def test_identity_that_names_nothing_is_an_error(nothing: Any) -> None:  # FR-090
    scene.act = lambda event: nothing

    assert deliver("/by-nothing/", stripe()).status_code == 500
    assert not ProcessedEvent.objects.exists()


@pytest.mark.parametrize(
    "event_id", [None, 0, 7, "", "evt\0", [], {"a": 1}, True], ids=repr
)
def test_delivery_without_a_usable_id_is_refused(event_id: Any) -> None:
    """F25, FR-092: nothing is stored, so that it can't shadow another one."""
    for path in ("/inline/", "/inbox/"):
        assert deliver(path, stripe(event_id)).status_code == 400
    assert not ProcessedEvent.objects.exists()
    assert scene.events == []


def test_long_ids_with_a_common_beginning_are_different() -> None:  # F25
    ids = ["e" * 300 + "1", "e" * 300 + "2", "e" * 5000]

    assert run(*[("/inline/", stripe(event_id)) for event_id in ids * 2]) == 3
    assert all(len(each) < 256 for each in states())


def test_id_of_255_characters_is_kept_as_it_is() -> None:
    run(("/inline/", stripe("e" * 255)))
    assert only().event_id == "e" * 255


@pytest.mark.parametrize("path", ["/inline/", "/inbox/"])
def test_names_that_no_column_takes_are_folded(path: str) -> None:  # F25
    sent = stripe(account="a" * 5000, type="t" * 5000)

    assert deliver(path, sent).status_code == 200
    assert deliver(path, sent).status_code == 200
    row = only()
    assert 0 < len(row.account) < 256
    while inbox.process_next() is not inbox.Step.NOTHING_DUE:
        pass
    assert Order.objects.count() == 1


def test_two_receivers_cant_have_one_name() -> None:
    def another(event: Event) -> None: ...

    with pytest.raises(ImproperlyConfigured, match="Name them apart"):
        webhook(providers.STRIPE, secrets=SECRET, endpoint="tested-inline")(another)


def test_receiver_may_be_declared_again() -> None:
    """As by a module that is imported again."""
    for _ in range(2):

        @webhook(providers.STRIPE, secrets=SECRET, endpoint="declared-twice")
        def handler(event: Event) -> None: ...


def test_name_of_a_receiver_fits_its_column() -> None:
    with pytest.raises(ImproperlyConfigured, match="1 to 255"):
        webhook(providers.STRIPE, secrets=SECRET, endpoint="e" * 256)(print)


def test_limit_of_attempts_is_at_least_one() -> None:
    with pytest.raises(ImproperlyConfigured, match="1 or more"):
        webhook(providers.STRIPE, secrets=SECRET, endpoint="e", max_attempts=0)(print)
