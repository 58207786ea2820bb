"""The clients in Python before the shop, in two processes, and what gets lost between."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from django_idempotency.contrib.retries import Retries, operation_key
from tests.concurrency.conftest import AT_THE_SHOP, Pair
from tests.concurrency.servers import server as shop_process
from tests.support.calling import CALLERS, QUICK, Caller, Lost, with_httpx
from tests.support.cases import cases
from tests.support.client import Answer
from tests.support.threads import (
    AT_THE_GATE,
    TIMEOUT,
    all_at_once,
    crew,
    gate_closed,
    start,
    until,
    until_waiting,
)
from tests.support.wire import Act, Wire, answer, hand_on, lose, lose_half, wire
from tests.testapp.models import Order

pytestmark = AT_THE_SHOP

all_callers = cases("call", CALLERS)
SECRET = "a secret of the service"  # noqa: S105 - nobody\'s
PATIENT = Retries(
    tries=50,
    first_pause=timedelta(milliseconds=20),
    longest_pause=timedelta(milliseconds=100),
)


@pytest.fixture
def between() -> Iterator[Wire]:
    with wire() as it:
        yield it


@cases(
    "loss",
    {"all": lose, "half": lose_half, "502 instead": answer(502), "429": answer(429)},
)
@all_callers
def test_lost_answer_makes_one_order(
    two_servers: Pair, between: Wire, call: Caller, loss: Act
) -> None:
    one, two = two_servers
    between.will(hand_on(one, then=loss), hand_on(two, then=loss), hand_on(one))

    assert call(f"{between.address}/protected/").word == "201 replayed"
    assert Order.objects.count() == 1


def test_same_losses_with_a_key_for_each_attempt_are_an_order_each(
    two_servers: Pair, between: Wire
) -> None:
    """The negative control."""
    one, _ = two_servers
    once = Retries(tries=1)
    between.will(hand_on(one, then=lose), hand_on(one, then=lose), hand_on(one))
    for _ in range(2):
        with pytest.raises(Lost):
            with_httpx(f"{between.address}/protected/", once)
    with_httpx(f"{between.address}/protected/", once)

    assert Order.objects.count() == 3


@all_callers
def test_storm_of_copies_of_one_operation_makes_one_order(
    two_servers: Pair, between: Wire, call: Caller
) -> None:
    """Each copy derives its key by itself; every third answer is lost on the way."""
    one, two = two_servers
    acts = [hand_on(one, then=lose), hand_on(two), hand_on(one)]
    between.will(*acts * 11, hand_on(two))

    def copy(number: int) -> Answer:
        key = operation_key("pay order 7", secret=SECRET)
        url = f"{between.address}/impatient/"
        return call(url, PATIENT, headers={"Idempotency-Key": key}, timeout=TIMEOUT)

    answers = all_at_once(32, copy)

    assert len({each.body for each in answers}) == 1
    assert {each.status for each in answers} == {201}
    assert Order.objects.count() == 1
    assert len(set(between.keys)) == 1


@all_callers
def test_copy_in_flight_comes_back_for_the_first_answer(
    two_servers: Pair, between: Wire, call: Caller
) -> None:
    one, two = two_servers
    between.will(hand_on(two))
    headers = {"Idempotency-Key": operation_key("pay order 7", secret=SECRET)}
    with gate_closed() as gate, crew() as threads:
        first = start(threads, call, f"{one}/impatient/", headers=headers)
        until_waiting(1, AT_THE_GATE)
        copy = start(threads, call, f"{between.address}/impatient/", headers=headers)
        until(lambda: len(between.requests) > 1)
        gate.open()
        words = [each.result(TIMEOUT).word for each in (first, copy)]

    assert words == ["201", "201 replayed"]
    assert Order.objects.count() == 1


@all_callers
def test_process_that_begins_anew_makes_no_second_order(call: Caller) -> None:
    """The shop restarts, and so does the job that calls it: the key is derived again."""
    words = []
    for _ in range(2):
        key = operation_key("order of job 12", secret=SECRET)
        with shop_process() as shop:
            url = f"{shop.address}/protected/"
            words.append(call(url, QUICK, headers={"Idempotency-Key": key}).word)

    assert words == ["201", "201 replayed"]
    assert Order.objects.count() == 1
