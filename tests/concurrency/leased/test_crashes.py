"""A process that is killed, or stopped for too long, at any point of a checkout.

The points are recorded from a run. Each of them gets an order of its own: the process
ends there, the lease ends by itself, and the client sends the same request again.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from django.db.models.functions import Now

from django_idempotency.models import IdempotencyRecord
from tests.concurrency.answers import Answer, new_key
from tests.concurrency.leased.processes import Bank, Shop, bank, order, shop
from tests.concurrency.storm import TIMEOUT, crew, until
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.concurrency,
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
]

WORKERS = 6


@dataclass(slots=True, kw_only=True)
class Case:
    """One order, and the point at which its first process ends."""

    path: str
    index: int
    """Of the point, among those that were recorded."""
    point: str
    number: int
    """Of the order."""
    key: str
    late: str = ""
    """What the first client is told in the end, where its process was only stopped."""
    retry: Answer | None = None
    repeat: Answer | None = None

    @property
    def words(self) -> tuple[str, str]:
        assert self.retry is not None
        assert self.repeat is not None
        return self.retry.word, self.repeat.word

    @property
    def is_answered_alike(self) -> bool:
        return (self.retry and self.retry.body) == (self.repeat and self.repeat.body)


@dataclass(frozen=True, slots=True)
class Campaign:
    cases: list[Case]
    asked: Counter[tuple[str, int]]
    done: Counter[tuple[str, int]]
    orders: Counter[int]

    def where(self, condition: Callable[[Case], bool]) -> list[str]:
        """The points of the cases for which this holds."""
        return [f"{case.index} {case.point}" for case in self.cases if condition(case)]

    def is_done_once(self, case: Case) -> bool:
        return (
            self.orders[case.number],
            self.done["charges", case.number],
            self.done["mails", case.number],
        ) == (1, 1, 1)

    def index(self, point: str, *, behind: int = 0) -> int:
        points = [case.point for case in self.cases]
        return points.index(point, behind)


PATHS = ["repeated", "held", "looked-up", "unremembered"]


@cache
def killed_everywhere() -> dict[str, Campaign]:
    """Processes are killed at every point of each view; the tests look at the rest."""
    with bank() as other_side, shop(other_side) as at:
        cases = {
            path: recorded(at, path, first_number=1000 * place)
            for place, path in enumerate(PATHS, start=1)
        }
        everything = [case for each_path in cases.values() for case in each_path]
        each(everything, lambda case: kill(at, case))
        until(lambda: not live_leases())
        each(everything, lambda case: retry(at, case))
        each(everything, lambda case: repeat(at, case))
        return {path: counted(cases[path], other_side) for path in PATHS}


def stopped_everywhere(path: str) -> Campaign:
    """Each process is stopped for longer than its lease, and then goes on."""
    with bank() as other_side, shop(other_side) as at, crew() as threads:
        cases = recorded(at, path)
        late = [threads.submit(stop, at, case) for case in cases]
        until(lambda: len(at.stopped()) == len(cases))
        until(lambda: not live_leases())
        each(cases, lambda case: retry(at, case))
        at.go_on()
        for case, future in zip(cases, late, strict=True):
            case.late = word_of(future)
        each(cases, lambda case: repeat(at, case))
        return counted(cases, other_side)


def recorded(at: Shop, path: str, *, first_number: int = 0) -> list[Case]:
    """Run it once in peace, and return a case for each point that was passed."""
    answer = order(at, path, new_key(), -1)
    assert answer is not None
    assert answer.word == "201"
    points = json.loads(answer.headers["Doom-Points"])
    return [
        Case(
            path=path,
            index=index,
            point=point,
            number=first_number + index,
            key=new_key(),
        )
        for index, point in enumerate(points)
    ]


def kill(at: Shop, case: Case) -> None:
    assert order(at, case.path, case.key, case.number, doom=case.index) is None


def stop(at: Shop, case: Case) -> Answer | None:
    stopping = signal.SIGSTOP
    return order(at, case.path, case.key, case.number, doom=case.index, by=stopping)


def retry(at: Shop, case: Case) -> None:
    case.retry = order(at, case.path, case.key, case.number)


def repeat(at: Shop, case: Case) -> None:
    case.repeat = order(at, case.path, case.key, case.number)


def each(cases: list[Case], act: Callable[[Case], Any]) -> None:
    with ThreadPoolExecutor(WORKERS) as threads:
        for future in [threads.submit(act, case) for case in cases]:
            future.result(TIMEOUT)


def word_of(future: Future[Answer | None]) -> str:
    answer = future.result(TIMEOUT)
    return "died" if answer is None else answer.word


def live_leases() -> int:
    return IdempotencyRecord.objects.filter(lease_expires_at__gt=Now()).count()


def counted(cases: list[Case], other_side: Bank) -> Campaign:
    orders = Counter(Order.objects.values_list("amount", flat=True))
    asked, done = other_side.counts("asked"), other_side.counts("done")
    return Campaign(cases, asked, done, orders)


def test_order_killed_at_any_point_is_done_once() -> None:
    """FR-013, FR-029, FR-027: charged once, by a bank that honours the derived key."""
    campaign = killed_everywhere()["repeated"]

    assert len(campaign.cases) > 20
    assert campaign.where(lambda case: not campaign.is_done_once(case)) == []
    # Only behind the last COMMIT is there an answer already.
    assert campaign.where(
        lambda case: case.words != ("201", "201 replayed")
    ) == campaign.where(lambda case: case is campaign.cases[-1])
    assert campaign.cases[-1].words == ("201 replayed", "201 replayed")
    assert campaign.where(lambda case: not case.is_answered_alike) == []


def test_call_whose_end_was_committed_is_never_made_again() -> None:
    """The bank's own list says how often it was asked."""
    campaign = killed_everywhere()["repeated"]
    for service in ("charges", "mails"):
        again = [
            case.point
            for case in campaign.cases
            if campaign.asked[service, case.number] > 1
        ]

        # The next thing that happens is that its end is committed.
        assert again == [
            f"after {service}",
            "before UPDATE",
            "after UPDATE",
            "before COMMIT",
        ]


def test_call_that_holds_is_made_at_most_once_wherever_it_is_killed() -> None:
    """By a bank that knows no keys: then nobody can say whether it happened."""
    campaign = killed_everywhere()["held"]
    begun = campaign.index("before forgetful-charges") - 1  # behind its COMMIT
    ended = campaign.index(
        "after COMMIT", behind=campaign.index("after forgetful-charges")
    )
    unknown = range(begun, ended)

    assert campaign.where(lambda case: campaign.done["charges", case.number] > 1) == []
    for case in campaign.cases[:-1]:
        expected = (
            ("409 outcome-unknown", "409 outcome-unknown")
            if case.index in unknown
            else ("201", "201 replayed")
        )
        assert (case.point, case.words) == (case.point, expected)
        assert campaign.orders[case.number] == (case.index not in unknown)


def test_call_that_is_looked_up_is_made_once_wherever_it_is_killed() -> None:
    """By a bank that knows no keys, but can be asked."""
    campaign = killed_everywhere()["looked-up"]

    assert campaign.where(lambda case: not campaign.is_done_once(case)) == []
    assert campaign.where(lambda case: campaign.asked["charges", case.number] > 1) == []


def test_order_without_steps_is_done_twice() -> None:
    """The negative control: these kills do harm where nothing is remembered."""
    campaign = killed_everywhere()["unremembered"]

    assert campaign.where(lambda case: campaign.done["charges", case.number] > 1)
    assert campaign.where(lambda case: campaign.orders[case.number] > 1)


def test_order_stopped_at_any_point_for_longer_than_its_lease_is_done_once() -> None:
    """FR-014: slow, but living; at most one of the two commits."""
    campaign = stopped_everywhere("repeated")
    told = Counter((case.late, case.words[0]) for case in campaign.cases)

    assert campaign.where(lambda case: not campaign.is_done_once(case)) == []
    assert campaign.where(lambda case: case.words[1] != "201 replayed") == []
    assert set(told) == {
        ("409 in-flight", "201"),  # the other one took over
        ("201 replayed", "201"),  # stopped before it had claimed
        ("201", "409 in-flight"),  # stopped in a transaction, which the other waits for
        ("201", "201 replayed"),  # stopped behind the end
    }
    assert told["409 in-flight", "201"] > 10


def test_key_of_a_killed_process_is_blocked_as_long_as_its_lease_and_no_longer() -> (
    None
):
    """FR-013."""
    key = new_key()
    with bank() as other_side, shop(other_side) as at, crew() as threads:
        points = [case.point for case in recorded(at, "repeated")]
        assert (
            order(at, "repeated", key, 1, doom=points.index("before charges")) is None
        )
        blocked = order(at, "repeated", key, 1)
        until(lambda: not live_leases())
        futures = [threads.submit(order, at, "repeated", key, 1) for _ in range(5)]
        words = Counter(word_of(future) for future in futures)
        done = other_side.counts("done")

    assert blocked is not None
    assert blocked.word == "409 in-flight"
    assert 1 <= int(blocked.headers["Retry-After"]) <= 3
    assert words["201"] == 1
    assert set(words) <= {"201", "409 in-flight", "201 replayed"}
    assert (done["charges", 1], Order.objects.filter(amount=1).count()) == (1, 1)
