"""The code of the pages on steps and tasks, and what becomes of it when it is copied.

A second function, a second event, a card that is declined, an answer that is lost.
"""

import inspect
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from celery import Celery
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.management import BaseCommand
from django.db import transaction
from django.http import JsonResponse
from django.shortcuts import aget_object_or_404, get_object_or_404
from django.test import RequestFactory
from django.utils import timezone

from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import CallRefused, KeyReused, StepError
from django_idempotency.models import IdempotencyRecord
from django_idempotency.store.links import rows_with
from django_idempotency.tasks import current_operation, idempotent_task
from django_idempotency.webhooks import (
    NotReady,
    WebhookView,
    endpoints,
    on,
    providers,
    webhook,
)
from tests.support import deliveries
from tests.support.client import new_key
from tests.support.pages import (
    CardDeclined,
    Names,
    Provider,
    around,
    block,
    blocks,
    request_of,
    run,
    shop,
    tried,
    value,
)
from tests.support.records import states

pytestmark = pytest.mark.django_db(transaction=True)

STEPS, TASKS = "howto/choose-a-shape", "howto/run-a-task-once"
PAYMENT = "howto/find-a-payment"
FINDING, SETTLING = "howto/find-unkeyed-outside-calls", "howto/settle-a-held-operation"
GONE, PROMISES = "explanation/charged-and-gone", "explanation/guarantees"

MINUTE = timedelta(minutes=1)


class Site:
    """A shop of a reader's, with one customer and what there is to be counted."""

    def __init__(self, names: Names) -> None:
        self.provider = Provider()
        self.user = User.objects.create_user("ann")
        self.names: Names = {
            **names,
            "BaseCommand": BaseCommand,
            "CallRefused": CallRefused,
            "IdempotencyRecord": IdempotencyRecord,
            "JsonResponse": JsonResponse,
            "NotReady": NotReady,
            "ProviderUnavailable": TimeoutError,
            "WebhookView": WebhookView,
            "aget_object_or_404": aget_object_or_404,
            "current_operation": current_operation,
            "get_object_or_404": get_object_or_404,
            "idempotent": idempotent,
            "idempotent_task": idempotent_task,
            "login_required": login_required,
            "on": on,
            "partial": partial,
            "provider": self.provider,
            "providers": providers,
            "settings": settings,
            "timedelta": timedelta,
            "timezone": timezone,
            "transaction": transaction,
        }

    def cart(self) -> Any:
        return self.names["Cart"].objects.create(user=self.user)

    def order(self) -> int:
        made = self.names["Order"].objects.create(cart=self.cart(), charge=new_key())
        pk: int = made.pk
        return pk

    def count(self, model: str) -> int:
        count: int = self.names[model].objects.count()
        return count

    def post(self, view: Any, key: str, cart: Any) -> Any:
        """Return the status, or the error."""
        request = request_of(self.user, key, cart=cart.pk, card="pm_1")
        if inspect.iscoroutinefunction(view):
            return tried(lambda: async_to_sync(view)(request))
        return tried(lambda: view(request))


@pytest.fixture
def site() -> Iterator[Site]:
    with shop() as names:
        yield Site(names)


# Choose a shape

PRELUDE = """
cart = Cart.objects.get(pk=request.POST["cart"])
def charge(key):
    return provider.charge(cart.amount, cart=cart.pk, idempotency_key=key)
def order():
    return Order.objects.create(cart=cart, charge=charge_id).pk
"""
"""What the fragments of the page take from its first block."""

END = """
order_id = request.idempotency.write("order", order)
return JsonResponse({"order": order_id}, status=201)
"""


def checkout(
    site: Site, code: str, *, lease: str = "lease=timedelta(minutes=1)"
) -> Any:
    code = code.replace("from . import provider\n", "")
    code = code.replace("from .models import Cart, Order\n", "")
    return run(code.replace("lease=timedelta(minutes=1)", lease), site.names)[
        "checkout"
    ]


def fragment(site: Site, *parts: str, after: str = END) -> Any:
    code = block(STEPS, *parts)
    return idempotent(lease=MINUTE)(
        around(code, site.names, before=PRELUDE, after=after)
    )


CHECKOUTS: dict[str, Callable[[Site], Any]] = {
    "leased": lambda site: checkout(site, block(STEPS, "\ndef checkout(request)")),
    "atomic": lambda site: checkout(
        site, block(STEPS, "\ndef checkout(request)"), lease=""
    ),
    "async": lambda site: checkout(site, block(STEPS, "async def checkout")),
    "call that raised": lambda site: fragment(site, "except ProviderUnavailable"),
    "reserved": lambda site: fragment(site, "def reserve():"),
}
every_checkout = pytest.mark.parametrize("name", CHECKOUTS)


@every_checkout
def test_each_purchase_is_charged_and_ordered_once(name: str, site: Site) -> None:
    view = CHECKOUTS[name](site)
    for _ in range(2):
        key, cart = new_key(), site.cart()
        assert [site.post(view, key, cart) for _ in range(2)] == [201, 201]

    assert (len(site.provider.asked), site.count("Order")) == (2, 2)


@every_checkout
def test_answer_that_is_lost_charges_once(name: str, site: Site) -> None:
    view, key, cart = CHECKOUTS[name](site), new_key(), site.cart()
    site.provider.fate = TimeoutError
    assert site.post(view, key, cart) in (TimeoutError, 503)
    site.provider.fate = None

    assert [site.post(view, key, cart) for _ in range(2)] == [201, 201]
    assert (len(site.provider.made), site.count("Order")) == (1, 1)


@every_checkout
def test_declined_card_orders_nothing_and_another_one_may_follow(
    name: str, site: Site
) -> None:
    view, key, cart = CHECKOUTS[name](site), new_key(), site.cart()
    site.provider.fate = CardDeclined
    assert [site.post(view, key, cart) for _ in range(2)] == [CardDeclined] * 2
    assert site.count("Order") == 0
    site.provider.fate = None

    assert site.post(view, key, cart) == 201
    assert (len(site.provider.made), site.count("Order")) == (1, 1)


def test_card_that_is_refused_by_name_is_answered_once_and_for_all(site: Site) -> None:
    view, key, cart = fragment(site, "except CallRefused"), new_key(), site.cart()
    site.provider.fate = CardDeclined
    assert [site.post(view, key, cart) for _ in range(2)] == [402, 402]
    site.provider.fate = None

    assert site.post(view, key, cart) == 402
    assert site.post(view, new_key(), cart) == 201
    assert (len(site.provider.asked), site.count("Order")) == (2, 1)


def test_cart_that_is_reserved_is_charged_under_one_key(site: Site) -> None:
    view, cart = CHECKOUTS["reserved"](site), site.cart()

    assert [site.post(view, new_key(), cart) for _ in range(2)] == [201, 409]
    assert (len(site.provider.asked), site.count("Order")) == (1, 1)


def test_look_up_outside_a_step_is_wrong_as_the_page_says(site: Site) -> None:
    key, cart = new_key(), site.cart()
    crash = END.replace("return", "raise ZeroDivisionError\nreturn")
    tries = [fragment(site, "# wrong", after=after) for after in (crash, END)]

    words = [site.post(view, key, cart) for view in [*tries, tries[1]]]
    assert words == [ZeroDivisionError, StepError, StepError]
    assert site.count("Order") == 1


@pytest.mark.parametrize("applied", [True, False])
def test_held_call_is_found_and_settled(applied: bool, site: Site) -> None:
    view = fragment(site, 'if_unknown="hold"')
    key, cart = new_key(), site.cart()
    site.provider.fate = TimeoutError
    assert site.post(view, key, cart) is TimeoutError
    site.provider.fate = None
    assert site.post(view, key, cart) == 409
    (held,) = value(block(SETTLING, ".held()"), site.names)

    code = block(SETTLING, "record.settle(")
    names = {**site.names, "record": held, "request": request_of(site.user, key)}
    value(code, names, at=0 if applied else 1)

    assert site.post(view, key, cart) == 201
    assert site.names["Order"].objects.get().charge == ("ch_17" if applied else "ch_0")
    assert len(set(site.provider.asked)) == 1


def test_provider_says_what_became_of_a_held_call(site: Site, settings: Any) -> None:
    settings.STRIPE_WEBHOOK_SECRET = deliveries.SECRET
    site.names["webhook"] = webhook
    receiver = run(block(SETTLING, 'settles="charge"'), site.names)["charges"]
    view = fragment(site, 'if_unknown="hold"')
    key, cart = new_key(), site.cart()
    site.provider.fate = TimeoutError
    assert site.post(view, key, cart) is TimeoutError
    site.provider.fate = None

    call = {"idempotency_key": site.provider.asked[0]}
    assert deliver(receiver, "evt_1", "pi_1", cart.pk, age=0, request=call) == 200
    assert site.post(view, key, cart) == 201
    assert site.names["Order"].objects.get().charge == "pi_1"
    assert len(site.provider.asked) == 1


def test_call_hands_over_what_its_operation_is_found_by(site: Site) -> None:
    prelude = PRELUDE + 'order = type("Order", (), {"number": "A-17"})'
    code = around(
        block(SETTLING, "reference=order.number"),
        site.names,
        before=prelude,
        after="return JsonResponse({}, status=201)",
    )
    cart = site.cart()
    assert site.post(idempotent(lease=MINUTE)(code), new_key(), cart) == 201

    assert rows_with("A-17", using="default") == [IdempotencyRecord.objects.get().pk]


class Page:
    """One of several that are sent."""

    def __init__(self, number: int, provider: Provider) -> None:
        self.number, self.provider = number, provider
        self.is_filed = False

    def send(self, key: str) -> str:
        return self.provider.ask(key)

    def file_away(self) -> None:
        if self.number == 2 and not self.is_filed:
            self.is_filed = True
            raise ZeroDivisionError


def test_pages_are_sent_once_though_one_is_filed_away_twice(site: Site) -> None:
    site.names["pages"] = [Page(number, site.provider) for number in range(4)]
    view = fragment(site, "for page in pages", after="return JsonResponse({})")
    key, cart = new_key(), site.cart()

    assert [site.post(view, key, cart) for _ in range(2)] == [ZeroDivisionError, 200]
    assert len(site.provider.asked) == len(set(site.provider.asked)) == 4


@pytest.mark.parametrize("page", [STEPS, GONE])
def test_query_finds_operations_that_are_under_way(page: str, site: Site) -> None:
    view, key, cart = CHECKOUTS["leased"](site), new_key(), site.cart()
    site.post(view, new_key(), site.cart())
    site.provider.fate = TimeoutError
    site.post(view, key, cart)

    (found,) = value(block(page, ".exclude(", "effects={}"), site.names)
    assert found.key == key


# Outside calls


@pytest.mark.parametrize(
    "code",
    [
        block(FINDING, 'idempotency.call("charge"'),
        block(FINDING, "place_order(cart"),
        block(PROMISES, "charge(order"),
    ],
    ids=["call", "key", "promise"],
)
def test_call_with_a_key_is_made_once_though_its_answer_is_lost(
    code: str, site: Site
) -> None:
    def place_order(cart: Any, *, key: str) -> None:
        site.provider.ask(key)

    def charge(what: Any, key: str = "", *, idempotency_key: str = "") -> str:
        return site.provider.ask(key or idempotency_key)

    site.names |= {"place_order": place_order, "charge": charge, "cart": 1, "order": 1}
    view = idempotent(around(code, site.names, after="return JsonResponse({})"))
    for _ in range(2):
        key, cart = new_key(), site.cart()
        site.provider.fate = TimeoutError
        assert site.post(view, key, cart) is TimeoutError
        site.provider.fate = None
        assert site.post(view, key, cart) == 200

    assert (len(site.provider.asked), len(site.provider.made)) == (4, 2)


@pytest.mark.parametrize(("debug", "wish"), [(True, "raise"), (False, "ignore")])
def test_finding_is_for_development(debug: bool, wish: str) -> None:
    names = run(block(FINDING, "IDEMPOTENCY_OUTSIDE_CALLS"), {"DEBUG": debug})

    assert names["IDEMPOTENCY_OUTSIDE_CALLS"] == wish


# Run a task once


def receipt_tasks(site: Site) -> list[Any]:
    """Two functions of one module, whose keys are spelled alike."""
    site.names |= {"mail_provider": site.provider, "receipt": lambda order: "Thank you"}
    make = run(block(TASKS, "def make_receipt"), site.names)["make_receipt"]
    send = run(block(TASKS, "mail_provider.send"), site.names)["send_receipt"]
    return [make, send]


def test_each_function_of_the_page_is_done_once_for_each_order(site: Site) -> None:
    make, send = receipt_tasks(site)
    for order in (site.order(), site.order()):
        for task in (make, send):
            task(order)
            task(order)

    assert (site.count("Receipt"), len(site.provider.asked)) == (4, 2)


def test_mail_whose_answer_is_lost_has_one_key(site: Site) -> None:
    _, send = receipt_tasks(site)
    order = site.order()
    site.provider.fate = TimeoutError
    with pytest.raises(TimeoutError):
        send(order)
    site.provider.fate = None
    send(order)

    assert (len(site.provider.asked), len(site.provider.made)) == (2, 1)
    assert site.count("Receipt") == 1


def test_argument_that_is_not_in_the_key_is_not_lost_in_silence(site: Site) -> None:
    """A copier adds one to the function, and not to its key."""
    code = block(TASKS, "def make_receipt")
    code = code.replace("lambda order_id:", "lambda order_id, amount:")
    code = code.replace("make_receipt(order_id)", "make_receipt(order_id, amount)")
    make = run(code, site.names)["make_receipt"]
    order = site.order()
    make(order, 5)

    with pytest.raises(KeyReused):
        make(order, 6)


def test_task_of_celery_is_delivered_and_delivered_again(site: Site) -> None:
    Celery("pages", broker="memory://", set_as_current=True).set_default()
    task = run(block(TASKS, "@shared_task"), site.names)["send_receipt"]

    assert [task.apply([order]).get() for order in (1, 1, 2)] == [None] * 3
    assert states() == ["kept"] * 2
    assert (task.acks_late, task.reject_on_worker_lost) == (True, True)


def test_command_makes_the_invoices_of_each_month_once(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    site.names["make_invoices"] = lambda: made.append(1)
    command = run(block(TASKS, "class Command"), site.names)["Command"]()
    for month in (1, 1, 2):
        monkeypatch.setattr(
            timezone, "localdate", lambda month=month: date(2027, month, 1)
        )
        command.handle()

    assert len(made) == 2


class Queue:
    def __init__(self) -> None:
        self.enqueued: list[int] = []
        self.is_down = False

    def delay(self, number: int) -> None:
        if self.is_down:
            raise ConnectionRefusedError
        self.enqueued.append(number)


def test_mail_is_enqueued_behind_the_commit(site: Site) -> None:
    queue = Queue()

    def place_order(request: Any) -> Any:
        cart = site.names["Cart"].objects.get(pk=request.POST["cart"])
        order = site.names["Order"].objects.create(cart=cart, charge=cart.pk)
        assert queue.enqueued == []
        return order

    site.names |= {"send_receipt": queue, "place_order": place_order}
    view = run(block(TASKS, "transaction.on_commit"), site.names)["checkout"]
    key, cart = new_key(), site.cart()

    assert [site.post(view, key, cart) for _ in range(2)] == [201, 201]
    assert queue.enqueued == [site.names["Order"].objects.get().pk]


def test_task_is_enqueued_by_the_retry_of_a_leased_checkout(site: Site) -> None:
    queue = Queue()
    site.names |= {"send_receipt": queue}
    code = block(TASKS, "send_receipt.delay(order_id)")
    prelude = PRELUDE + 'charge_id = request.idempotency.call("charge", charge)\n'
    end = "return JsonResponse({}, status=201)"
    view = around(code, site.names, before=prelude, after=end)
    view, key, cart = idempotent(lease=MINUTE)(view), new_key(), site.cart()
    queue.is_down = True
    assert site.post(view, key, cart) is ConnectionRefusedError
    queue.is_down = False

    assert site.post(view, key, cart) == 201
    assert queue.enqueued == [site.names["Order"].objects.get().pk]


@pytest.mark.parametrize("start", ["\ndef ship", "async def ship"])
def test_parcel_is_booked_once_for_each_order(start: str, site: Site) -> None:
    shipped: list[tuple[int, str]] = []

    def save_shipment(order_id: int, parcel: str) -> None:
        shipped.append((order_id, parcel))

    site.names |= {"carrier": site.provider, "save_shipment": save_shipment}
    ship = run(block(TASKS, start), site.names)["ship"]
    if inspect.iscoroutinefunction(ship):
        ship = async_to_sync(ship)
    site.provider.fate = TimeoutError
    with pytest.raises(TimeoutError):
        ship(1)
    site.provider.fate = None
    for order in (1, 1, 2):
        ship(order)

    assert len(site.provider.made) == 2
    assert len(site.provider.asked) == 3
    assert len(shipped) == (2 if start == "\ndef ship" else 0)


# Charged, and the client never came back


class Intents:
    """The official client's way to say it."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.metadata: dict[str, dict[str, Any]] = {}
        self.v1 = self.payment_intents = self.refunds = self

    def create(self, *, params: dict[str, Any], options: dict[str, str]) -> Any:
        self.id = self.provider.ask(options["idempotency_key"])
        self.metadata[self.id] = params.get("metadata", {})
        return self


def deliver(
    view: Any, event: str, intent: str, cart: int, *, age: int = 3600, **fields: Any
) -> int:
    created = int(timezone.now().timestamp()) - age
    sent = deliveries.stripe(
        event,
        type="payment_intent.succeeded",
        created=created,
        data={"object": {"id": intent, "metadata": {"cart": cart}}},
        **fields,
    )
    request = RequestFactory().post(
        "/hook/", sent.body, content_type="application/json", headers=dict(sent.headers)
    )
    status: int = view(request).status_code
    return status


@pytest.fixture
def stripe_events(site: Site, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    # Another project of the tests may have declared one of the same name.
    monkeypatch.setattr(endpoints, "_endpoints", {})
    settings.STRIPE_WEBHOOK_SECRET = deliveries.SECRET
    site.names["client"] = Intents(site.provider)
    return run(block(GONE, "class StripeEvents"), site.names)["StripeEvents"].as_view()


def test_webhook_makes_the_order_that_the_client_left_behind(
    site: Site, stripe_events: Any
) -> None:
    code = block(GONE, "payment_intents.create")
    prelude = "cart = Cart.objects.get(pk=request.POST['cart'])"
    after = 'charge_id = request.idempotency.call("charge", charge)\nraise OSError'
    view = idempotent(around(code, site.names, before=prelude, after=after))
    cart = site.cart()
    assert site.post(view, new_key(), cart) is OSError
    ((intent, metadata),) = site.names["client"].metadata.items()
    assert metadata["cart"] == cart.pk

    assert deliver(stripe_events, "evt_1", intent, cart.pk, age=0) == 503
    # A second event of the same charge, and one of another.
    for event in ("evt_1", "evt_1", "evt_2"):
        assert deliver(stripe_events, event, intent, cart.pk) == 200
    assert deliver(stripe_events, "evt_3", "ch_of_another", site.cart().pk) == 200
    assert site.count("Order") == 2


def test_refund_is_made_once_for_each_event(site: Site, stripe_events: Any) -> None:
    code = block(GONE, "refunds.create")
    names = site.names

    def refund(self: Any, event: Any) -> None:
        run(code, {**names, "event": event, "intent": event.data["data"]["object"]})

    handled = on("payment_intent.succeeded")(refund)
    bases = {
        "profile": providers.STRIPE,
        "secrets": deliveries.SECRET,
        "endpoint": "refunds",
        "paid": handled,
        "__module__": __name__,
    }
    refunds: Any = type("Refunds", (WebhookView,), bases)
    view = refunds.as_view()
    for event, intent in (("evt_1", "ch_0"), ("evt_1", "ch_0"), ("evt_2", "ch_1")):
        assert deliver(view, event, intent, 1) == 200

    assert (len(site.provider.asked), site.count("Refund")) == (2, 2)


def test_every_block_is_run() -> None:
    """So many are taken here, in `test_current_operation` and in `test_django_tasks`; a
    new one needs a test."""
    assert {page: len(blocks(page)) for page in ALL} == ALL


ALL = {STEPS: 9, TASKS: 10, FINDING: 3, SETTLING: 4, GONE: 5, PROMISES: 1, PAYMENT: 1}


# Find a payment


def test_payment_is_found_by_what_its_view_names(site: Site) -> None:
    code = around(block(PAYMENT, "about("), site.names, before=PRELUDE, after=END)
    cart = site.cart()
    assert site.post(idempotent(lease=MINUTE)(code), new_key(), cart) == 201
    record = IdempotencyRecord.objects.get()
    values = (f"cart-{cart.pk}", f"{cart._meta.label_lower}:{cart.pk}")

    for each in (*values, f"auth.user:{site.user.pk}"):
        assert rows_with(each, using="default") == [record.pk]
