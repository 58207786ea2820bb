"""A refusal by the other side is an outcome: remembered, neither 500 nor held."""

from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse

from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import CallRefused
from django_idempotency.tasks import current_operation, run_once
from tests.integration.leased.scene import (
    LEASE,
    order,
    scene,
    send,
    words,
)
from tests.integration.leased.test_steps import Crash, killed
from tests.integration.leased.views import ASYNC, EVERY_PLACEMENT
from tests.support.client import call, post
from tests.support.records import record, states
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.urls("tests.integration.leased.views"),
    pytest.mark.usefixtures("db"),
]


class Declined(Exception):
    """Of another party's client; its class needs more than a text."""

    def __init__(self, text: str, *, code: int) -> None:
        super().__init__(text)
        self.code = code


class Bank:
    """It declines each card, and replays that under an equal key, as Stripe does."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: Exception = Declined("Your card was declined. \0\ud800", code=51)

    def charge(self, key: str) -> str:
        self.asked.append(key)
        raise self.error


@pytest.fixture
def bank() -> Bank:
    return Bank()


def pay(steps: Any, bank: Bank, **options: Any) -> int:
    steps.call("charge", bank.charge, refused=Declined, **options)
    return order()


def caught(bank: Bank, **options: Any) -> Any:
    def deed(request: Any) -> tuple[int, Any]:
        try:
            pay(request.idempotency, bank, **options)
        except CallRefused as refusal:
            return 402, {"refused": refusal.message, "step": refusal.step}
        return 201, {}

    return deed


def uncaught(bank: Bank, **options: Any) -> Any:
    def deed(request: Any) -> tuple[int, Any]:
        return 201, {"order": pay(request.idempotency, bank, **options)}

    return deed


@pytest.mark.parametrize("if_unknown", ["repeat", "hold"])
@pytest.mark.parametrize("path", [*EVERY_PLACEMENT, "atomic"])
def test_caught_refusal_is_answered_and_replayed(
    path: str, if_unknown: str, bank: Bank
) -> None:
    scene.deed = caught(bank, if_unknown=if_unknown)

    assert words(path) == ["402", "402 replayed"]
    assert (len(bank.asked), states(), Order.objects.count()) == (1, ["kept"], 0)
    assert b"Your card was declined." in send(path).body


@pytest.mark.parametrize("if_unknown", ["repeat", "hold"])
@pytest.mark.parametrize("path", [*EVERY_PLACEMENT, "atomic"])
def test_uncaught_refusal_is_a_problem_and_stays_one(
    path: str, if_unknown: str, bank: Bank
) -> None:
    scene.deed = uncaught(bank, if_unknown=if_unknown)

    answers = [send(path) for _ in range(3)]

    assert [each.word for each in answers] == ["402 call-refused"] * 3
    assert {each.headers.get("Idempotency-Ended") for each in answers} == {"true"}
    # Without a lease nothing is remembered; then the key is the same each time.
    assert (len(bank.asked), len(set(bank.asked))) == (3 if path == "atomic" else 1, 1)
    assert "held" not in states()
    assert Order.objects.count() == 0


@pytest.mark.parametrize("key", [True, False], ids=["key", "no key"])
@pytest.mark.parametrize("path", ["optional", "async-optional"])
def test_refusal_without_a_key_is_a_problem_too(
    path: str, key: bool, bank: Bank
) -> None:
    scene.deed = uncaught(bank)

    answer = post(f"/{path}/", scene.key if key else None)

    assert answer.word == "402 call-refused"


@pytest.mark.parametrize("if_unknown", ["repeat", "hold"])
def test_crash_after_a_refusal_asks_nobody_again(if_unknown: str, bank: Bank) -> None:
    def crashing(request: Any) -> Any:
        with pytest.raises(CallRefused):
            pay(request.idempotency, bank, if_unknown=if_unknown)
        raise Crash

    scene.deed = crashing
    with killed():
        send()
    scene.deed = caught(bank, if_unknown=if_unknown)
    answer = send()

    assert (answer.word, len(bank.asked)) == ("402", 1)
    assert b"Your card was declined." in answer.body
    (step,) = record().effects["steps"]
    assert step["done"] is True


@pytest.mark.parametrize("path", ["plain", *ASYNC])
def test_other_errors_leave_the_outcome_unknown(path: str, bank: Bank) -> None:
    bank.error = TimeoutError()
    scene.deed = caught(bank, if_unknown="hold")

    assert words(path, 2) == ["500", "409 outcome-unknown"]


def test_remembered_refusal_says_what_the_first_one_said(bank: Bank) -> None:
    seen = []

    def task() -> None:
        try:
            pay_in_task()
        except CallRefused as refusal:
            seen.append((refusal.step, refusal.error, refusal.message, str(refusal)))
            raise

    def pay_in_task() -> None:
        pay(current_operation(), bank)

    for _ in range(2):
        with pytest.raises(CallRefused):
            run_once("receipt:1", task, lease=timedelta(minutes=1))

    assert len(bank.asked) == 1
    assert seen[0] == seen[1]
    assert seen[0][:2] == ("charge", f"{__name__}.Declined")


def test_first_refusal_carries_the_other_sides_error(bank: Bank) -> None:
    codes = []

    def deed(request: Any) -> None:
        with pytest.raises(CallRefused) as caught:
            pay(request.idempotency, bank)
        assert isinstance(caught.value.__cause__, Declined)
        codes.append(caught.value.__cause__.code)

    scene.deed = deed
    send()

    assert codes == [51]


@pytest.mark.parametrize(
    "refused",
    [Exception, BaseException, OSError, (Declined, Exception), "Declined", (1,), None],
)
@pytest.mark.parametrize("path", ["plain", "async", "atomic"])
def test_what_may_be_a_lost_answer_is_not_taken_for_a_refusal(
    path: str, refused: Any, bank: Bank
) -> None:
    def deed(request: Any) -> None:
        with pytest.raises(ImproperlyConfigured, match="refused="):
            request.idempotency.call("charge", bank.charge, refused=refused)

    scene.deed = deed

    assert send(path).word == "201"
    assert bank.asked == []


@pytest.mark.parametrize("if_unknown", ["repeat", "hold"])
def test_async_call_is_refused_alike(if_unknown: str, bank: Bank) -> None:
    @idempotent(lease=LEASE)
    async def view(request: Any) -> HttpResponse:
        async def charge(key: str) -> str:
            return bank.charge(key)

        await request.idempotency.acall(
            "charge", charge, if_unknown=if_unknown, refused=(Declined, KeyError)
        )
        return HttpResponse(status=201)

    answers = [call(async_to_sync(view), scene.key).word for _ in range(2)]

    assert (answers, len(bank.asked)) == (["402 call-refused"] * 2, 1)
