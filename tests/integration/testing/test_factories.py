"""`testing.factories`: what they make is what the package itself would have left."""

import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.test.client import MULTIPART_CONTENT
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import InvalidKey
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.webhooks.inbox import Step, process_next, rerun
from tests.factories import IdempotencyRecordFactory, ProcessedEventFactory, UserFactory
from tests.integration.webhooks import receivers
from tests.integration.webhooks.receivers import scene
from tests.support.cases import cases
from tests.support.deliveries import deliver, stripe
from tests.support.ordering import (
    FORM,
    JSON,
    is_replay,
    orders,
    place_order,
    word,
)

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

KEY = "0c5a6f6e-6f0b-4d3a-9d6f-2a4c4e6f8a1b"
HOWTO = Path(__file__).resolve().parents[3] / "docs" / "howto" / "test-your-endpoint.md"

WITHOUT_CARD = IdempotencyPolicy(exclude={"card"})


def tenant(request: HttpRequest) -> str:
    return f"tenant:{request.headers['X-Tenant']}"


@login_required
@idempotent(wait=timedelta(0))
def checkout(request: HttpRequest) -> HttpResponse:
    return place_order(request)


urlpatterns = [
    path("checkout/", checkout),
    path("open/", idempotent(place_order)),
    path("without-card/", idempotent(policy=WITHOUT_CARD)(place_order)),
    *receivers.urlpatterns,
]


@pytest.fixture(autouse=True)
def _fresh_scene() -> Iterator[None]:
    scene.reset()
    yield
    # Tests of other folders use it as well.
    scene.reset()


@pytest.fixture
def ann() -> User:
    return UserFactory.create(username="ann")


@pytest.fixture
def client(ann: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(ann)
    return client


def pay(client: Client, data: Any = None, path: str = "/checkout/") -> Any:
    return client.post(
        path, data or {"cart": 7}, content_type=JSON, headers={"Idempotency-Key": KEY}
    )


def checkout_of(user: User) -> dict[str, Any]:
    return {"user": user, "path": "/checkout/", "key": KEY, "data": {"cart": 7}}


# Records


@cases(
    "of, data, expected",
    {
        "same": ("ann", {"cart": 7}, "201 replayed"),
        "other payload": ("ann", {"cart": 8}, "422 key-reused"),
        "other user": ("ben", {"cart": 7}, "201"),
    },
)
def test_kept_record_is_replayed_to_its_user_for_its_payload(
    of: str, data: Any, expected: str, client: Client
) -> None:
    owner = UserFactory.create(username=of)
    # No order has this number.
    IdempotencyRecordFactory.create(**checkout_of(owner), answer={"order": 0})
    answer = pay(client, data)

    assert (word(answer), orders()) == (expected, 1 if of == "ben" else 0)
    assert (answer.json() == {"order": 0}) is is_replay(answer)


def test_answer_is_replayed_as_its_columns_say(client: Client, ann: User) -> None:
    IdempotencyRecordFactory.create(
        **checkout_of(ann),
        response_status=302,
        response_headers=[["Location", "/orders/41/"]],
        response_body=b"",
    )
    answer = pay(client)

    assert (answer.status_code, answer["Location"]) == (302, "/orders/41/")
    assert is_replay(answer)


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        *(({"cart": "7"}, MULTIPART_CONTENT), (None, MULTIPART_CONTENT)),
        *(("cart=7", FORM), (b"\x00\x01", "application/octet-stream")),
    ],
)
def test_payload_is_sent_as_by_djangos_client(data: Any, content_type: str) -> None:
    IdempotencyRecordFactory.create(
        path="/open/",
        key=KEY,
        data=data,
        content_type=None if content_type == MULTIPART_CONTENT else content_type,
    )
    answer = Client().post(
        "/open/", data, content_type, headers={"Idempotency-Key": KEY}
    )

    assert is_replay(answer)


def test_record_knows_what_its_policy_leaves_out() -> None:
    IdempotencyRecordFactory.create(
        path="/without-card/", key=KEY, data={"cart": 7, "card": 1}, policy=WITHOUT_CARD
    )
    answer = pay(Client(), {"cart": 7, "card": 2}, "/without-card/")

    assert is_replay(answer)


def test_record_is_made_for_a_given_request(settings: Any) -> None:
    settings.IDEMPOTENCY_PRINCIPAL = f"{__name__}.tenant"
    sent: Any = {"headers": {"X-Tenant": "blue", "Idempotency-Key": KEY}}
    IdempotencyRecordFactory.create(
        request=RequestFactory().put("/open/?page=2", **sent)
    )
    record = IdempotencyRecord.objects.get()

    assert (record.method, record.path, record.key) == ("PUT", "/open/", KEY)
    assert record.scope == "tenant:blue|anonymous|PUT|/open/"
    assert is_replay(Client().put("/open/?page=2", **sent))
    assert not is_replay(Client().put("/open/?page=3", **sent))


def test_headers_tell_whose_key_it_is(settings: Any) -> None:
    settings.IDEMPOTENCY_PRINCIPAL = f"{__name__}.tenant"
    record = IdempotencyRecordFactory.create(headers={"X-Tenant": "blue"})

    assert record.scope == "tenant:blue|anonymous|POST|/"


def test_guests_key_must_be_unguessable_as_ever() -> None:
    with pytest.raises(InvalidKey):
        IdempotencyRecordFactory.create(key="1")


def test_key_is_a_fresh_one() -> None:
    one, other = IdempotencyRecordFactory.create_batch(2)

    assert one.key != other.key


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        ("held", "409 outcome-unknown"),
        ("in_flight", "409 in-flight"),
        ("released", "201"),
        ("expired", "201"),
    ],
)
def test_record_in_each_state_is_answered_so(
    state: str, answer: str, client: Client, ann: User
) -> None:
    record = IdempotencyRecordFactory.create(**{state: True}, **checkout_of(ann))
    if state != "released":
        assert list(getattr(IdempotencyRecord.objects, state)()) == [record]

    assert (word(pay(client)), orders()) == (answer, answer.count("201"))
    record.refresh_from_db()
    # A released one has been tried before; an expired one begins anew.
    assert record.attempts == (2 if state == "released" else 1)


def test_held_operation_can_be_settled(client: Client, ann: User) -> None:
    record = IdempotencyRecordFactory.create(held=True, **checkout_of(ann))
    record.settle(applied=False, reason="the provider has no such charge")

    assert (pay(client).status_code, orders()) == (201, 1)


NINE_DAYS = timedelta(days=9)


@pytest.mark.parametrize(
    ("policy", "column"),
    [
        (
            IdempotencyPolicy(lease=NINE_DAYS, retention=2 * NINE_DAYS),
            "lease_expires_at",
        ),
        (IdempotencyPolicy(retention=NINE_DAYS), "expires_at"),
    ],
)
def test_record_lasts_as_long_as_the_policy_says(
    policy: IdempotencyPolicy, column: str
) -> None:
    record = IdempotencyRecordFactory.create(in_flight=True, policy=policy)
    life = getattr(record, column) - record.created_at

    assert abs(life - NINE_DAYS) < timedelta(minutes=1)


def test_record_can_be_built_without_the_database() -> None:
    built = IdempotencyRecordFactory.build(key=KEY)

    assert (built.key, IdempotencyRecord.objects.count()) == (KEY, 0)


# Events

PAID = {
    "id": "evt_1",
    "type": "invoice.paid",
    "created": 1_760_000_000,
    "livemode": True,
    "data": {"object": {"id": "in_1"}},
}
"""What `stripe()` delivers."""


@pytest.mark.parametrize("state", ProcessedEvent.State.values)
def test_event_is_made_in_each_state(state: str) -> None:
    traits = {"received": {"due": True}, "processed": {}}.get(state, {state: True})
    event = ProcessedEventFactory.create(**traits)

    assert event.state == state


@pytest.mark.django_db(transaction=True)
def test_dead_event_can_be_run_again() -> None:
    event = ProcessedEventFactory.create(dead=True, endpoint="tested-inbox", data=PAID)

    assert list(ProcessedEvent.objects.dead()) == [event]
    assert rerun(event, reason="mended") is Step.PROCESSED
    assert scene.handled == ["evt_1"]


@pytest.mark.django_db(transaction=True)
def test_due_event_is_taken_by_the_worker() -> None:
    event = ProcessedEventFactory.create(due=True, endpoint="tested-inbox", data=PAID)

    assert list(ProcessedEvent.objects.due()) == [event]
    assert process_next() is Step.PROCESSED
    assert (scene.handled, process_next()) == (["evt_1"], Step.NOTHING_DUE)


@pytest.mark.parametrize(
    ("traits", "handled"),
    [({}, []), ({"failed": True}, ["evt_1"]), ({"expired": True}, ["evt_1"])],
)
def test_delivery_of_an_event_that_is_there(
    traits: dict[str, bool], handled: list[str]
) -> None:
    ProcessedEventFactory.create(**traits, endpoint="tested-inline", data=PAID)

    assert deliver("/inline/", stripe("evt_1")).status_code == 200
    assert scene.handled == handled
    attempts = ProcessedEvent.objects.get().attempts
    assert attempts == (2 if "failed" in traits else 1)


@pytest.mark.parametrize("endpoint", ["tested-inbox", "tested-ordered"])
def test_event_is_as_a_delivery_of_it_would_be_stored(endpoint: str) -> None:
    deliver(f"/{endpoint.removeprefix('tested-')}/", stripe("evt_1"))
    stored: Any = ProcessedEvent.objects.values().get()
    ProcessedEvent.objects.all().delete()
    ProcessedEventFactory.create(due=True, endpoint=endpoint, data=PAID)
    made: Any = ProcessedEvent.objects.values().get()
    instants = {"expires_at", "next_attempt_at", "received_at"}
    told = {name: made[name] for name in made.keys() - instants}

    assert told == {name: stored[name] for name in stored.keys() - instants}


def test_event_of_no_receiver_is_refused() -> None:
    with pytest.raises(LookupError, match="No webhook endpoint is named 'nobody'"):
        ProcessedEventFactory.create(endpoint="nobody", data=PAID)


# What is needed for it


def test_factories_without_factory_boy_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "django_idempotency.testing.factories"
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "factory.declarations", None)

    with pytest.raises(ImportError, match=r"pip install django-idempotency\[testing\]"):
        import_module(name)


def test_page_s_factories_work_as_they_are_written(client: Client, ann: User) -> None:
    _, _, section = HOWTO.read_text(encoding="utf-8").partition("## Rows in each state")
    blocks = re.findall(r"^```python\n(.*?)^```$", section, re.M | re.S)
    namespace: dict[str, Any] = {}
    for block in blocks:
        exec(block, namespace)  # noqa: S102 - our own page

    namespace["test_client_is_told_that_the_outcome_is_unknown"](client, ann)
    namespace["test_dashboard_shows_what_waits"](ann)
