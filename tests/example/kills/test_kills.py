"""kill -9 before and after every statement, COMMIT and outside call of the shop's steps.

The points are recorded from a run. Each of them gets a customer, a cart and a key of its
own: the process dies there, the lease ends, and the same request is sent again.
"""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.test import Client

from django_idempotency.core.operations import TASK
from django_idempotency.models import IdempotencyRecord
from example_project.checkout.models import Cart, Order, Refund
from example_project.theatre.naive.models import NaiveOrder
from tests.example.factories import CartFactory, OrderFactory
from tests.example.kills.processes import Town, set_up
from tests.factories import UserFactory
from tests.support.client import Answer, new_key
from tests.support.threads import TIMEOUT, until

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

WORKERS = 6

#: What each pays is its own, and tells it apart on the payment server's list.
amounts = itertools.count(1000)


@dataclass(slots=True, kw_only=True)
class Case:
    """What one customer sends, and the point at which its first process dies."""

    amount: int
    session: str
    path: str
    fields: dict[str, Any] = field(default_factory=dict)
    key: str = field(default_factory=new_key)
    index: int = -1
    """Of the point, among those that were recorded."""
    point: str = ""
    answers: list[Answer] = field(default_factory=list)
    """To the retry and to its repeat."""

    def send(self, town: Town, *, doom: int | None = None) -> Answer | None:
        return town.send(
            self.path, self.fields, key=self.key, session=self.session, doom=doom
        )

    @property
    def words(self) -> list[str]:
        return [answer.word for answer in self.answers]


Prepare = Callable[[Town], Case]


def checkout(town: Town) -> Case:
    cart, amount, session = new_cart()
    return Case(
        amount=amount,
        session=session,
        path="leased/checkout/",
        fields={"cart": cart.pk, "payment_method": "pm_card_visa"},
    )


def refund(town: Town) -> Case:
    paid = checkout(town)
    answer = paid.send(town)
    assert answer is not None
    order = answer.json["order"]
    return Case(
        amount=paid.amount, session=paid.session, path=f"leased/orders/{order}/refund/"
    )


def mail(town: Town) -> Case:
    cart, amount, session = new_cart()
    order = OrderFactory.create(cart=cart, amount_minor=amount)
    return Case(amount=amount, session=session, path=f"deliver/{order.pk}/")


def naive_checkout(town: Town) -> Case:
    case = checkout(town)
    case.path = "naive/checkout/"
    return case


def new_cart() -> tuple[Cart, int, str]:
    """A cart, what is to be paid for it, and the session of its signed-in owner."""
    amount = next(amounts)
    user = UserFactory.create(username=str(amount), email=email_of(amount))
    cart = CartFactory.create(user=user, item__product__price_minor=amount)
    browser = Client()
    browser.force_login(user)
    return cart, amount, browser.cookies["sessionid"].value


def email_of(amount: int) -> str:
    return f"{amount}@example.com"


@pytest.fixture(scope="module")
def town(django_db_setup: None) -> Iterator[Town]:
    with set_up() as town:
        yield town


def killed_everywhere(town: Town, prepare: Prepare) -> list[Case]:
    """Kill at every point, then send everything again, twice.

    The retry comes when the leases of the requests have ended, and finds those of the
    mails alive, which last a minute; after it their ends are moved up.
    """
    recorded = prepare(town).send(town)
    assert recorded is not None
    points = json.loads(recorded.headers["Doom-Points"])
    cases = [prepare(town) for _ in points]
    for index, (case, point) in enumerate(zip(cases, points, strict=True)):
        case.index, case.point = index, point

    def kill(case: Case) -> None:
        assert case.send(town, doom=case.index) is None, case.point

    def send_again(case: Case) -> None:
        answer = case.send(town)
        assert answer is not None
        case.answers.append(answer)

    each(cases, kill)
    until(lambda: not live_leases().exclude(method=TASK).exists())
    each(cases, send_again)
    live_leases().update(lease_expires_at=Now())
    each(cases, send_again)
    return cases


def each(cases: list[Case], act: Callable[[Case], None]) -> None:
    with ThreadPoolExecutor(WORKERS) as threads:
        for future in [threads.submit(act, case) for case in cases]:
            future.result(TIMEOUT)


def live_leases() -> QuerySet[IdempotencyRecord]:
    return IdempotencyRecord.objects.filter(lease_expires_at__gt=Now())


def where(cases: list[Case], condition: Callable[[Case], bool]) -> list[str]:
    """The points of the cases for which this holds."""
    return [f"{case.index} {case.point}" for case in cases if condition(case)]


def require_one_final_answer(cases: list[Case]) -> None:
    """The retry is served and its answer kept; behind the last COMMIT it is there."""
    *others, last = cases
    assert last.words == ["201 replayed", "201 replayed"]
    assert where(others, lambda case: case.words != ["201", "201 replayed"]) == []
    assert (
        where(cases, lambda case: len({each.body for each in case.answers}) > 1) == []
    )


def points_of(cases: list[Case], kind: str) -> set[str]:
    return {case.point for case in cases if case.point.endswith(f" {kind}")}


def test_checkout_killed_at_any_point_is_one_charge_one_order_and_one_mail(
    town: Town,
) -> None:
    """Field reports FR-013, FR-027, FR-029, at the shop.

    A process that dies after sending, before that is remembered, sends the same mail
    again, which its Message-ID tells a mailbox: so those are counted. Where it died
    inside the mail task, ``send_receipts`` makes it good.
    """
    cases = killed_everywhere(town, checkout)
    mails = town.mailed()
    unsent = [case.point for case in cases if not mails[email_of(case.amount)]]
    answer = town.send("send-receipts/")

    assert answer is not None
    # From the claim of the mail task, which the retry found alive, up to the mail.
    assert (unsent[0], unsent[-1]) == ("after COMMIT", "before mail")
    charges, mails = town.listed("charges"), town.mailed()
    orders = Counter(Order.objects.values_list("amount_minor", flat=True))
    assert points_of(cases, "charge") == {"before charge", "after charge"}
    assert points_of(cases, "mail") == {"before mail", "after mail"}
    assert where(cases, lambda case: charges[case.amount] != 1) == []
    assert where(cases, lambda case: orders[case.amount] != 1) == []
    assert where(cases, lambda case: len(set(mails[email_of(case.amount)])) != 1) == []
    require_one_final_answer(cases)


def test_refund_killed_at_any_point_is_one_refund(town: Town) -> None:
    cases = killed_everywhere(town, refund)

    made, charges = town.listed("refunds"), town.listed("charges")
    noted = Counter(Refund.objects.values_list("amount_minor", flat=True))
    assert points_of(cases, "refund") == {"before refund", "after refund"}
    assert where(cases, lambda case: made[case.amount] != 1) == []
    assert where(cases, lambda case: noted[case.amount] != 1) == []
    assert where(cases, lambda case: charges[case.amount] != 1) == []
    require_one_final_answer(cases)


def test_mail_task_killed_at_any_point_is_one_mail(town: Town) -> None:
    """Of distinct Message-IDs, as above: it is sent again where nobody knew that it was.

    The task is delivered again while the lease of the dead one lives, and after it.
    """
    cases = killed_everywhere(town, mail)

    mails = town.mailed()
    sent = {case.index: mails[email_of(case.amount)] for case in cases}
    assert where(cases, lambda case: len(set(sent[case.index])) != 1) == []
    # What happens next is that its end is committed.
    assert [case.point for case in cases if len(sent[case.index]) > 1] == [
        "after mail",
        "before UPDATE",
        "after UPDATE",
        "before COMMIT",
    ]
    assert where(cases, lambda case: case.words != ["200", "200"]) == []


def test_naive_checkout_is_charged_twice(town: Town) -> None:
    """The negative control: these kills do harm where nothing is remembered."""
    cases = killed_everywhere(town, naive_checkout)

    charges = town.listed("charges")
    orders = Counter(NaiveOrder.objects.values_list("amount_minor", flat=True))
    twice = where(cases, lambda case: charges[case.amount] == 2)
    assert [point.partition(" ")[2] for point in twice][:1] == ["after charge"]
    assert where(cases, lambda case: orders[case.amount] != 1) == []
