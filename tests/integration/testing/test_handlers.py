"""`assert_handler_safe`, in a plain test: content with what is right, finds the rest."""

from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, models
from django.db.models import F
from django.test import TestCase
from django.test.utils import isolate_apps
from django.urls import path

from django_idempotency.engine.idempotency import current_operation
from django_idempotency.testing import IdempotencyTestMixin, assert_handler_safe
from django_idempotency.testing.state import Change, state_of
from django_idempotency.webhooks import (
    NotReady,
    WebhookView,
    endpoints,
    on,
    providers,
    webhook,
)
from tests.testapp.models import Cart, CartItem, Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

SECRET = "whsec_of_this_file"  # noqa: S105 - nothing else is signed with it
CHARGE = f"{__name__}.charge"


def charge(amount: int, key: str = "") -> int:
    """What stands for the other side."""
    return amount


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "_endpoints", {})
    Cart.objects.create(name="before").items.create(quantity=999)


def event(number: int, name: str) -> dict[str, Any]:
    return {"id": f"evt_{number}", "type": f"invoice.{name}", "created": 1_760_000_000}


EVENTS = [event(1, "made"), event(2, "paid"), event(3, "sent")]


def puts_up_with_any_order(event: Any) -> None:
    charge(5, current_operation().key_for("charge"))
    Order.objects.create(reference=event.id)
    CartItem.objects.update(quantity=F("quantity") - 1)


def waits_for_the_first(event: Any) -> None:
    if event.type != "invoice.made" and not Order.objects.exists():
        raise NotReady
    Order.objects.create(reference=event.id)


def counts_what_is_there(event: Any) -> None:
    """Right in one order only."""
    Order.objects.create(reference=event.id, amount=Order.objects.count())


def is_never_ready(event: Any) -> None:
    raise NotReady


def charges_at_each_attempt(event: Any) -> None:
    charge(5)
    Order.objects.create(reference=event.id)


HANDLERS: list[tuple[Callable[[Any], None], str]] = [
    (puts_up_with_any_order, ""),
    (waits_for_the_first, ""),
    (
        counts_what_is_there,
        "invoice.made evt_1, invoice.sent evt_3, invoice.paid evt_2",
    ),
    (is_never_ready, "Not acknowledged, however often it is delivered: invoice.made"),
    (charges_at_each_attempt, "charge(5)\n  When the answer to {charge} was lost"),
    (lambda event: None, "any order would do"),
]


@pytest.mark.parametrize(
    ("handler", "says", "inbox"),
    [
        *[(*each, False) for each in HANDLERS],
        *[(*each, True) for each in (HANDLERS[1], HANDLERS[3])],
    ],
    ids=range(len(HANDLERS) + 2),
)
def test_handler_is_safe_or_it_is_said_why_not(
    handler: Callable[[Any], None], says: str, inbox: bool
) -> None:
    receiver = webhook(providers.STRIPE, secrets=SECRET, inbox=inbox)(handler)
    before = Order.objects.count()
    try:
        assert_handler_safe(receiver, EVENTS, outside=[CHARGE])
        said = ""
    except AssertionError as error:
        said = str(error)

    assert says.format(charge=CHARGE) in said
    assert bool(said) is bool(says)
    assert Order.objects.count() == before


class Payments(WebhookView):
    profile = providers.GITHUB
    secrets = SECRET

    @on("paid", "sent")
    def happened(self, event: Any) -> None:
        Order.objects.create(amount=Order.objects.count())
        Cart.objects.create(name=event.type)


def test_class_is_a_receiver_and_orders_of_many_events_are_drawn() -> None:
    events = [
        (b"{}", {"X-GitHub-Event": kind, "X-GitHub-Delivery": f"{kind}{number}"})
        for kind in ("paid", "sent")
        for number in range(2)
    ]

    assert_handler_safe(Payments, events, max_orders=4)


def test_what_is_no_receiver_is_refused_with_the_line_to_write() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"@webhook\(…\)"):
        assert_handler_safe(puts_up_with_any_order, EVENTS)


def test_methods_for_unittest_take_what_the_functions_take() -> None:
    class Case(IdempotencyTestMixin, TestCase):
        """Has a client, as each of Django's test cases."""

    case = Case()
    case.client = case.client_class()
    receiver = webhook(providers.STRIPE, secrets=SECRET)(puts_up_with_any_order)
    urlpatterns.append(path("hook/", receiver))

    case.assertHandlerSafe(receiver, EVENTS[:2])
    answer = case.deliver("/hook/", providers.STRIPE, SECRET, EVENTS[0])

    assert answer.status_code == 200


urlpatterns: list[Any] = []


# What is compared


def removes(cart: Cart) -> None:
    cart.items.all().delete()


def renames(cart: Cart) -> None:
    Cart.objects.update(name="after")


def counts_down(cart: Cart) -> None:
    cart.items.update(quantity=F("quantity") - 2)


def adds(cart: Cart) -> None:
    Cart.objects.create(name="new").items.create(quantity=3)


def adds_to_an_old_one(cart: Cart) -> None:
    cart.items.create(quantity=3)


@pytest.mark.postgresql  # rolls the table back
@isolate_apps("tests.testapp")
def test_rows_with_a_key_of_several_columns_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Seat(models.Model):  # noqa: DJ008
        pk = models.CompositePrimaryKey("row", "number")
        row = models.IntegerField()
        number = models.IntegerField()
        guest = models.TextField(default="")

        class Meta:
            app_label = "testapp"

    monkeypatch.setattr(apps, "get_models", lambda **options: [Seat])
    monkeypatch.setattr(apps, "get_model", lambda label: Seat)
    with connection.schema_editor() as editor:
        editor.create_model(Seat)
    seats = Seat._base_manager
    seats.create(row=1, number=1)
    before = state_of()
    seats.create(row=1, number=2)
    seats.filter(number=1).update(guest="ann")

    assert sorted(Change.between(before, state_of()).told()) == [
        "testapp.Seat added: guest '', number 2, row 1",
        "testapp.Seat changed: guest 'ann'",
    ]


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (removes, ["testapp.CartItem removed: cart_id {cart}, quantity 999"]),
        (renames, ["testapp.Cart changed: name 'after'"]),
        (counts_down, ["testapp.CartItem changed: quantity -2"]),
        (
            adds,
            [
                "testapp.Cart added: name 'new'",
                "testapp.CartItem added: cart_id (new), quantity 3",
            ],
        ),
        (
            adds_to_an_old_one,
            ["testapp.CartItem added: cart_id {cart}, quantity 3"],
        ),
        (
            lambda cart: User.objects.update(is_active=False),
            ["auth.User changed: is_active False"],
        ),
    ],
)
def test_change_is_told_without_the_numbers_of_new_rows(
    act: Callable[[Cart], Any], told: list[str]
) -> None:
    User.objects.create(username="ann")
    cart, before = Cart.objects.get(), state_of()
    act(cart)

    change = Change.between(before, state_of())

    assert sorted(change.told()) == [each.format(cart=cart.pk) for each in told]
