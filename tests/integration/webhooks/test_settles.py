"""The provider's own word: its event settles the call whose outcome is unknown."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db.models.functions import Now
from django.http import HttpResponse, JsonResponse
from django.test import Client
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord, OperationLink, ProcessedEvent
from django_idempotency.webhooks import Event, providers, webhook
from django_idempotency.webhooks.inbox import process_next
from tests.support.cases import cases
from tests.support.deliveries import SECRET, deliver, stripe
from tests.support.ordering import forgiving_client, send, word
from tests.support.records import change, expire, record
from tests.support.threads import TIMEOUT, crew, start
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

LEASE = timedelta(minutes=1)


class Bank:
    """The other side: it charges, and its answers may get lost."""

    asked: list[str] = []
    meanwhile: Callable[[], Any] | None = None
    loses_answers = True

    def charge(self, key: str) -> dict[str, str]:
        self.asked.append(key)
        if self.meanwhile is not None:
            self.meanwhile()
        if self.loses_answers:
            raise TimeoutError
        return {"id": f"ch_{len(self.asked)}"}


bank = Bank()


def pay(request: Any, policy: str) -> HttpResponse:
    charge = request.idempotency.call(
        "charge", bank.charge, if_unknown=policy, reference="cart-117"
    )
    order = request.idempotency.write("order", lambda: Order.objects.create().pk)
    return JsonResponse({"charge": charge["id"], "order": order}, status=201)


def charge_of(event: Event) -> Any:
    if event.type != "charge.succeeded":
        return None
    return {"id": event.data["data"]["object"]["id"]}


def handle(event: Event) -> None:
    found = event.operation
    seen.append(None if found is None else found.pk)


seen: list[Any] = []
by_reference = replace(
    providers.STRIPE, call_key=(), reference="data.object.metadata.cart"
)
settling: Any = {"secrets": SECRET, "settles": "charge", "result": charge_of}
leased: Any = idempotent(lease=LEASE, wait=timedelta(0))
urlpatterns = [
    path("hold/", leased(pay), {"policy": "hold"}),
    path("repeat/", leased(pay), {"policy": "repeat"}),
    path("key/", webhook(providers.STRIPE, endpoint="by-key", **settling)(handle)),
    path("ref/", webhook(by_reference, endpoint="by-reference", **settling)(handle)),
    path(
        "inbox/",
        webhook(providers.STRIPE, endpoint="by-inbox", inbox=True, **settling)(handle),
    ),
]
each_policy = pytest.mark.parametrize("url", ["/hold/", "/repeat/"])
each_way = pytest.mark.parametrize("to", ["/key/", "/ref/", "/inbox/"])


@pytest.fixture(autouse=True)
def client() -> Client:
    bank.asked.clear()
    bank.meanwhile, bank.loses_answers = None, True
    seen.clear()
    return forgiving_client()


def tell(to: str = "/key/", event_id: str = "evt_1", **fields: Any) -> None:
    """Deliver the event of the charge that was made last."""
    content: dict[str, Any] = {
        "type": "charge.succeeded",
        "created": int(time.time()),
        "request": {"id": "req_1", "idempotency_key": bank.asked[-1]},
        "data": {"object": {"id": "ch_told", "metadata": {"cart": "cart-117"}}},
    }
    assert deliver(to, stripe(event_id, **(content | fields))).status_code == 200
    if to == "/inbox/":
        process_next()


def outcome(client: Client, url: str) -> Any:
    """What a retry gets."""
    response = send(client, url)
    if response.status_code != 201:
        return word(response)
    charge: str = response.json()["charge"]
    return charge


def kill_the_worker() -> None:
    """As if it had died in the call: its lease ends, and it writes nothing."""
    change(
        state="held" if record().state == "held" else "in_flight",
        lease_expires_at=Now() - timedelta(seconds=1),
    )


@each_way
@each_policy
def test_event_settles_the_call_that_has_caused_it(
    url: str, to: str, client: Client
) -> None:
    send(client, url)
    tell(to)

    assert (record().state, record().held_since) == ("released", None)
    assert seen == [record().pk]
    assert outcome(client, url) == "ch_told"
    assert (len(bank.asked), Order.objects.count()) == (1, 1)
    assert [note["what"] for note in record().history].count("settled") == 1
    assert "evt_1" in record().last_act


@cases("to, told", {"key": ("/key/", False), "reference": ("/ref/", True)})
def test_where_keys_of_calls_are_not_kept_the_reference_still_settles(
    to: str, told: bool, client: Client, settings: Any
) -> None:
    settings.IDEMPOTENCY_FIND_CALLS = False
    send(client, "/repeat/")
    tell(to)

    assert {each.kind for each in OperationLink.objects.all()} - {"word"} == {
        "reference"
    }
    assert (record().pk in seen) is told
    bank.loses_answers = False
    assert outcome(client, "/repeat/") == ("ch_told" if told else "ch_2")
    assert Order.objects.count() == 1


@each_policy
def test_event_during_the_lease_settles_when_the_worker_dies(
    url: str, client: Client
) -> None:
    """It comes while the call is being made, and leaves its owner alone."""
    left: list[Any] = []

    def meanwhile() -> None:
        tell()
        left.append(IdempotencyRecord.objects.values().get())

    bank.meanwhile = meanwhile
    send(client, url)
    # The worker had no chance to say anything.
    columns = left[0]
    IdempotencyRecord.objects.filter(pk=columns.pop("id")).update(**columns)
    kill_the_worker()

    assert outcome(client, url) == "ch_told"
    assert (len(bank.asked), Order.objects.count()) == (1, 1)


@each_policy
def test_event_during_the_call_does_not_disturb_its_owner(
    url: str, client: Client
) -> None:
    bank.meanwhile, bank.loses_answers = tell, False

    assert outcome(client, url) == "ch_1"
    assert [note["what"] for note in record().history] == ["claimed"]
    assert record().state == "kept"


@each_policy
def test_event_after_everything_changes_nothing(url: str, client: Client) -> None:
    bank.loses_answers = False
    first = outcome(client, url)
    before = record().effects
    tell()

    assert (record().state, record().effects) == ("kept", before)
    assert outcome(client, url) == first


def test_word_about_an_earlier_life_of_the_key_says_nothing_of_this_one(
    client: Client,
) -> None:
    """Past its retention a key is another operation, in the row of the first."""
    send(client, "/repeat/")
    tell()
    assert outcome(client, "/repeat/") == "ch_told"
    expire()
    send(client, "/repeat/")
    bank.loses_answers = False

    assert outcome(client, "/repeat/") == "ch_3"
    assert len(bank.asked) == 3


LONG_AGO = timedelta(days=2)


@each_way
@pytest.mark.parametrize("told", ["at once", "when its worker is dead"])
def test_late_event_of_an_earlier_life_of_the_key_settles_nothing_of_this_one(
    told: str, to: str, client: Client
) -> None:
    """The derived key is the same one: what tells them apart is when it happened."""
    happened = int((datetime.now(UTC) - LONG_AGO).timestamp())
    send(client, "/hold/")
    record().settle(applied=False, reason="not in the list", by="ann")
    expire()
    tell_late = partial(tell, to, created=happened)
    if told == "at once":
        bank.meanwhile = tell_late
        send(client, "/hold/")
        kill_the_worker()
    else:
        send(client, "/hold/")
        kill_the_worker()
        tell_late()

    assert outcome(client, "/hold/") == "409 outcome-unknown"
    assert (record().state, seen) == ("held", [None])
    bank.meanwhile = None
    tell(to, "evt_2")
    assert outcome(client, "/hold/") == "ch_told"


@each_policy
def test_doubled_event_settles_once(url: str, client: Client) -> None:
    send(client, url)
    for event_id in ("evt_1", "evt_1", "evt_2"):
        tell(event_id=event_id)

    assert [note["what"] for note in record().history].count("settled") == 1
    assert outcome(client, url) == "ch_told"


@pytest.mark.parametrize(
    "fields",
    [
        {"request": {"idempotency_key": "5f0c9b1e-0000-8000-8000-000000000000"}},
        {"request": None},
        {"request": "req_1"},
        {"type": "charge.updated"},
    ],
    ids=["another operation", "no call", "old version", "says nothing"],
)
def test_event_that_says_nothing_of_the_call_settles_nothing(
    fields: dict[str, Any], client: Client
) -> None:
    send(client, "/hold/")
    tell(**fields)

    assert (record().state, outcome(client, "/hold/")) == (
        ("held", "409 outcome-unknown")
    )


def test_reference_of_two_operations_settles_neither(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    for key in ("K", "L"):
        send(client, "/hold/", key=key)
    tell("/ref/")

    states = set(IdempotencyRecord.objects.values_list("state", flat=True))
    assert (states, seen) == ({"held"}, [None])
    assert "event_ambiguous" in [getattr(each, "action", "") for each in caplog.records]


def test_event_whose_handler_fails_settles_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(client, "/hold/")
    monkeypatch.setattr("tests.integration.webhooks.test_settles.seen", None)
    with pytest.raises(AssertionError):  # 500, so that it is sent again
        tell()

    assert record().state == "held"


def test_person_who_was_first_has_decided(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """And is contradicted where everybody looks."""
    send(client, "/hold/")
    record().settle(applied=False, reason="not in the list", by="ann")
    with caplog.at_level(logging.ERROR, "django_idempotency"):
        tell()

    assert record().state == "released"
    assert getattr(caplog.records[-1], "action", "") == "contradicted"


def test_person_who_was_second_is_told(client: Client) -> None:
    send(client, "/hold/")
    looked_at = record()
    tell()
    with pytest.raises(ValueError, match="The other side settled it"):
        looked_at.settle(applied=False, reason="not in the list", by="ann")


@pytest.mark.concurrency
@each_policy
def test_event_and_retries_at_once_charge_once_and_order_once(
    url: str, client: Client
) -> None:
    for number in range(10):
        key = f"key-{number}"
        bank.loses_answers = True
        send(client, url, key=key)
        asked = len(bank.asked)
        with crew() as threads:
            event = start(threads, tell, "/key/", f"evt_{number}")
            retries = [
                start(threads, send, forgiving_client(), url, key=key) for _ in range(3)
            ]
            event.result(TIMEOUT)
            for each in retries:
                each.result(TIMEOUT)
        last = send(client, url, key=key)

        assert last.json()["charge"] == "ch_told"
        # Who took over before the word was there has repeated it under the same key.
        assert len(set(bank.asked[asked - 1 :])) == 1
        assert url == "/repeat/" or len(bank.asked) == asked
        assert Order.objects.count() == number + 1
    assert ProcessedEvent.objects.filter(state="processed").count() == 10


@pytest.mark.parametrize(
    ("profile", "options"),
    [
        (providers.STRIPE, {"settles": "charge"}),
        (providers.STRIPE, {"result": charge_of}),
        (providers.GITHUB, {"settles": "charge", "result": charge_of}),
        (
            replace(providers.STRIPE, call_key="header:X-Call"),
            {"settles": "charge", "result": charge_of},
        ),
    ],
    ids=["no result", "no name", "no place", "unsigned"],
)
def test_receiver_that_could_settle_nothing_is_refused(
    profile: Any, options: dict[str, Any]
) -> None:
    def receiver(event: Event) -> None: ...

    with pytest.raises(ImproperlyConfigured, match="settles="):
        webhook(profile, secrets=SECRET, endpoint="settles-nothing", **options)(
            receiver
        )
