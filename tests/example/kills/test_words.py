"""The provider's own word, from a server that behaves as Stripe, by its own client.

The shop, the gateway and the payment server are processes that talk over HTTP, and the
code is that of the page on Stripe. Charges are counted by the payment server.
"""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe
from django.db.models.functions import Now
from django.test import Client

from django_idempotency.admin.lanes import drawing_of
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.stories.telling import Lane
from example_project.checkout.models import Order
from example_project.theatre.demo.stage import API_KEY
from tests.example.factories import CartFactory
from tests.example.kills.processes import Town, set_up
from tests.factories import UserFactory
from tests.support.client import Answer, new_key
from tests.support.staff import Form, colleague
from tests.support.threads import TIMEOUT, crew, start, until

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(300),
    pytest.mark.urls("example_project.urls"),
]

HOWTO = Path(__file__).parents[3] / "docs/howto"
HOLD, REPEAT, HOLD_BY_REFERENCE = "hold/", "repeat/", "hold-by-reference/"
BY_KEY, BY_REFERENCE = "by-key", "by-reference"
RECORDS = "/admin/django_idempotency/idempotencyrecord/"

amounts = itertools.count(1001)
each_policy = pytest.mark.parametrize("path", [HOLD, REPEAT])
each_way = pytest.mark.parametrize(
    ("path", "to"),
    [(HOLD, BY_KEY), (REPEAT, BY_KEY), (HOLD_BY_REFERENCE, BY_REFERENCE)],
)


@pytest.fixture(scope="module")
def town(django_db_setup: None) -> Iterator[Town]:
    addresses = {name: f"/{name}/" for name in (BY_KEY, BY_REFERENCE)}
    with set_up("tests.example.kills.words", reports_to=addresses) as town:
        yield town


@pytest.fixture
def provider(town: Town) -> stripe.StripeClient:
    return stripe.StripeClient(
        API_KEY, base_addresses={"api": town.gateway_url}, max_network_retries=0
    )


@dataclass
class Purchase:
    """A cart that a customer pays, of an amount that no other has."""

    town: Town
    provider: stripe.StripeClient
    path: str = HOLD
    key: str = field(default_factory=new_key)

    def __post_init__(self) -> None:
        self.amount = next(amounts)
        user = UserFactory.create()
        self.cart = CartFactory.create(
            user=user, item__quantity=1, item__product__price_minor=self.amount
        )
        browser = Client()
        browser.force_login(user)
        self.session = browser.cookies["sessionid"].value

    def pay(self, doom: str | None = None) -> str:
        """Send the request; return its answer in a word, and ``""`` if there is none."""
        answer: Answer | None = self.town.send(
            self.path,
            {"cart": self.cart.pk, "payment_method": "pm_card_visa"},
            key=self.key,
            session=self.session,
            doom=doom,
        )
        return "" if answer is None else answer.word

    @property
    def record(self) -> IdempotencyRecord:
        return IdempotencyRecord.objects.get(key=self.key)

    @property
    def charges(self) -> int:
        """By the provider's own ledger."""
        return self.town.listed("charges")[self.amount]

    @property
    def paid(self) -> list[str]:
        """What the orders of the purchase say that they are paid by."""
        orders = Order.objects.filter(cart=self.cart)
        return list(orders.values_list("payment__provider_id", flat=True))

    @property
    def event(self) -> stripe.Event:
        """That of its charge, as the provider lists it."""
        (found,) = (
            each
            for each in self.provider.v1.events.list({"limit": 100}).data
            if each.type == "payment_intent.succeeded"
            and each.data.object["amount"] == self.amount
        )
        return found

    @property
    def charge(self) -> str:
        return str(self.event.data.object["id"])

    def report(self, to: str = BY_KEY, event: stripe.Event | None = None) -> int:
        """Let the provider deliver the event; return what the shop answers."""
        told = deliver(self.town, (event or self.event).id, to)
        assert told.status_code == 200, told.text
        status: int = told.json()["status"]
        return status

    def end_lease(self) -> None:
        """As if the time of whoever was killed were over."""
        IdempotencyRecord.objects.filter(key=self.key).update(
            lease_expires_at=Now() - timedelta(seconds=1)
        )

    @property
    def times_settled(self) -> int:
        return [note["what"] for note in self.record.history].count("settled")


def deliver(town: Town, event_id: str, to: str) -> httpx.Response:
    return httpx.post(
        f"{town.gateway_url}/v1/events/{event_id}/retry",
        data={"webhook_endpoint": to},
        headers={"Authorization": f"Bearer {API_KEY}"},
        timeout=TIMEOUT,
        trust_env=False,
    )


@pytest.fixture
def buy(town: Town, provider: stripe.StripeClient) -> Callable[..., Purchase]:
    def buy(path: str = HOLD) -> Purchase:
        return Purchase(town, provider, path)

    return buy


Buy = Callable[..., Purchase]


def test_pages_show_one_receiver() -> None:
    block = (HOWTO / "charge-with-stripe.md").read_text().split("# webhooks.py")[1]
    receiver = block.partition("```")[0]

    assert "settles=" in receiver
    assert receiver in (HOWTO / "settle-a-held-operation.md").read_text()


@each_way
@pytest.mark.parametrize("doom", ["lose", "kill"])
def test_event_after_a_lost_answer_or_a_kill_settles(
    path: str, to: str, doom: str, buy: Buy
) -> None:
    """The client's retry goes on with what the provider says, and doesn't call again."""
    mine = buy(path)
    assert mine.pay(doom) == ("" if doom == "kill" else "500")
    mine.end_lease()
    assert mine.report(to) == 200

    assert (mine.record.state, mine.record.held_since) == ("released", None)
    assert [mine.pay(), mine.pay()] == ["201", "201 replayed"]
    assert (mine.charges, mine.paid, mine.times_settled) == (1, [mine.charge], 1)


@each_way
@pytest.mark.parametrize("doom", ["wait", "wait kill"])
def test_event_before_the_answer_leaves_the_owner_alone_and_is_remembered(
    path: str, to: str, doom: str, buy: Buy
) -> None:
    """While the lease runs; if the owner dies then, whoever takes over finds the word."""
    mine = buy(path)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(mine.pay, doom)
        until(lambda: (mine.town.mails / f"{mine.key}.came").exists())
        assert mine.report(to) == 200
        assert mine.times_settled == 0
        lease_end = mine.record.lease_expires_at
        assert lease_end is not None
        assert lease_end > datetime.now(UTC)
        (mine.town.mails / f"{mine.key}.go").touch()
        answer = first.result(TIMEOUT)
    if doom == "wait":
        assert (answer, mine.pay(), mine.times_settled) == ("201", "201 replayed", 0)
    else:
        assert answer == ""
        mine.end_lease()
        assert [mine.pay(), mine.pay()] == ["201", "201 replayed"]
    assert (mine.charges, mine.paid) == (1, [mine.charge])


@each_policy
def test_event_after_the_end_changes_nothing(path: str, buy: Buy) -> None:
    mine = buy(path)
    assert mine.pay() == "201"
    before = mine.record.effects
    assert mine.report() == 200

    assert (mine.record.state, mine.record.effects) == ("kept", before)
    assert (mine.pay(), mine.charges, len(mine.paid)) == ("201 replayed", 1, 1)


@each_policy
def test_event_that_comes_twice_and_out_of_order_settles_once(
    path: str, buy: Buy
) -> None:
    """Beside it one that says less: that of the payment's beginning comes last."""
    mine = buy(path)
    mine.pay("lose")
    others = [
        each
        for each in mine.provider.v1.events.list({"limit": 100}).data
        if each.id != mine.event.id and each.data.object["amount"] == mine.amount
    ]
    assert others
    told = [mine.event, mine.event]
    for event in (*told, *others, *others, *told):
        assert mine.report(event=event) == 200

    assert mine.times_settled == 1
    assert ProcessedEvent.objects.filter(event_id=mine.event.id).count() == 1
    assert [mine.pay(), mine.pay()] == ["201", "201 replayed"]
    assert (mine.charges, mine.paid) == (1, [mine.charge])


def by_another(mine: Purchase, buy: Buy) -> stripe.Event:
    other = buy(mine.path)
    other.pay()
    return other.event


def charged_by_hand(mine: Purchase, **options: str) -> stripe.Event:
    """Somebody else's program makes a charge, under another key or under none."""
    amount = next(amounts)
    mine.provider.v1.payment_intents.create(
        {
            "amount": amount,
            "currency": "eur",
            "payment_method": "pm_card_visa",
            "confirm": True,
        },
        options or {},  # type: ignore[arg-type]
    )
    (event,) = (
        each
        for each in mine.provider.v1.events.list({"limit": 100}).data
        if each.type == "payment_intent.succeeded"
        and each.data.object["amount"] == amount
    )
    return event


@each_policy
@pytest.mark.parametrize("whose", ["another operation", "unknown key", "no key"])
def test_event_of_another_call_settles_nothing(path: str, whose: str, buy: Buy) -> None:
    mine = buy(path)
    mine.pay("lose")
    before = (mine.record.state, mine.record.effects)
    event = {
        "another operation": lambda: by_another(mine, buy),
        "unknown key": lambda: charged_by_hand(mine, idempotency_key=new_key()),
        "no key": lambda: charged_by_hand(mine),
    }[whose]()
    assert mine.report(event=event) == 200

    assert (mine.record.state, mine.record.effects) == before
    assert mine.times_settled == 0
    assert mine.charges == 1


@pytest.mark.parametrize("decision", ["applied", "not-applied"])
def test_event_retries_and_a_person_at_once(decision: str, buy: Buy) -> None:
    """Whoever comes first, there is one charge, and the answer is that charge."""
    for _ in range(4):
        mine = buy(HOLD)
        mine.pay("lose")
        record, charge = mine.record, mine.charge
        url = f"{RECORDS}{record.pk}/decide/{decision}/"
        form = Form.on_page(colleague("view", "settle"), url)
        given = {"result": charge} if decision == "applied" else {}
        with crew() as threads:
            acts: list[Future[Any]] = [
                start(threads, mine.report),
                start(threads, form.send, reason="looked it up", **given),
                *(start(threads, mine.pay) for _ in range(3)),
            ]
            for each in acts:
                each.result(TIMEOUT)
        if mine.record.state == "in_flight":
            mine.end_lease()
        last = mine.pay()

        assert last.startswith("201")
        assert (mine.charges, mine.paid, mine.times_settled) == (1, [charge], 1)


@each_way
def test_story_shows_the_event_on_the_lane_of_the_provider(
    path: str, to: str, buy: Buy
) -> None:
    mine = buy(path)
    mine.pay("lose")
    mine.report(to)
    mine.pay()
    page = colleague("view").get(f"{RECORDS}{mine.record.pk}/change/")
    story = page.context["page"].story
    told = [row for row in story.rows if row.lane == Lane.PROVIDER and row.in_table]

    assert [mine.event.id in row.note for row in told].count(True) >= 1
    assert any("provider's event said" in row.text for row in told)
    drawing = drawing_of(story.rows)
    assert drawing is not None
    provider = next(lane for lane in drawing.lanes if lane.name == "Provider")
    assert "settled by its event" in [shape.text for shape in provider.shapes]
