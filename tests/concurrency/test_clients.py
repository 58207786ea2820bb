"""What stands before the shop and follows the rules: a proxy that resends, and a client."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.concurrency.conftest import AT_THE_SHOP, Pair
from tests.concurrency.leader import leading
from tests.support.client import Answer, new_key, post, post_to
from tests.support.threads import (
    AT_A_CLAIM,
    AT_THE_GATE,
    TIMEOUT,
    crew,
    gate_closed,
    start,
    until,
    until_waiting,
)
from tests.testapp.models import Order

pytestmark = AT_THE_SHOP

PROBLEMS = Path(__file__).parents[2] / "docs" / "reference" / "problems.md"


@dataclass
class Proxy:
    """Hands the same request on to the next upstream if one is dead, as nginx does."""

    upstreams: Sequence[str]
    patience_seconds: Sequence[float]
    tries: int = 0

    DEAD = frozenset({500, 502, 503, 504})

    def hand_on(self, path: str, key: str) -> Answer:
        for address, patience in zip(
            self.upstreams, self.patience_seconds, strict=True
        ):
            self.tries += 1
            try:
                answer = post_to(address, path, key, timeout=patience)
            except OSError:
                until_waiting(1, AT_THE_GATE)  # a busy machine may take longer
                continue
            if answer.status not in self.DEAD:
                return answer
        raise AssertionError("no upstream is alive")


def test_copies_of_a_proxy_end_with_the_replay(two_servers: Pair) -> None:
    """FR-114: the view outlasts two tries, and the third is in time for the answer."""
    with gate_closed() as gate, crew() as threads:
        message = ("/patient/", new_key())
        first = Proxy(two_servers, [1, 1])
        gave_up = start(threads, first.hand_on, *message)
        until_waiting(1, AT_THE_GATE)
        until_waiting(1, AT_A_CLAIM)
        with pytest.raises(AssertionError, match="no upstream"):
            gave_up.result(TIMEOUT)
        last = start(threads, Proxy(two_servers[:1], [TIMEOUT]).hand_on, *message)
        gate.open()
        answer = last.result(TIMEOUT)

    assert answer.word == "201 replayed"
    assert Order.objects.count() == 1


def test_proxy_takes_a_copy_in_flight_for_alive(two_servers: Pair) -> None:
    """FR-114: three upstreams, the view takes longer than the proxy waits."""
    with gate_closed() as gate, crew() as threads:
        proxy = Proxy([*two_servers, two_servers[0]], [1, TIMEOUT, TIMEOUT])
        answer = start(threads, proxy.hand_on, "/impatient/", new_key()).result(TIMEOUT)
        gate.open()
        until(lambda: Order.objects.exists())

    assert (answer.word, answer.headers["Retry-After"]) == ("409 in-flight", "1")
    assert proxy.tries == 2
    assert Order.objects.count() == 1


def test_same_copies_without_protection_are_an_order_each(two_servers: Pair) -> None:
    """The negative control."""
    with gate_closed() as gate, crew() as threads:
        proxy = Proxy([*two_servers, two_servers[0]], [1, 1, 1])
        gave_up = start(threads, proxy.hand_on, "/unprotected/", new_key())
        gave_up.exception(TIMEOUT)
        gate.open()
        until(lambda: Order.objects.count() == 3)


class Client:
    """Follows the documentation: what is in flight is asked for again, nothing else."""

    def __init__(self, address: str, path: str) -> None:
        self.address = address
        self.path = path
        self.answers: list[Answer] = []

    def buy(self, key: str | None, amount: int = 1) -> str:
        while True:
            answer = post_to(self.address, self.path, key, amount=amount)
            self.answers.append(answer)
            if answer.status != 409 or answer.json["code"] != "in-flight":
                return answer.word
            time.sleep(int(answer.headers["Retry-After"]))


def test_client_that_comes_back_when_told_ends_with_the_replay(
    two_servers: Pair,
) -> None:
    """FR-115."""
    key = new_key()
    with gate_closed() as gate, crew() as threads:
        leader = start(threads, post_to, two_servers[0], "/impatient/", key)
        until_waiting(1, AT_THE_GATE)
        client = Client(two_servers[1], "/impatient/")
        word = start(threads, client.buy, key)
        until(lambda: len(client.answers) >= 2)
        gate.open()
        first = leader.result(TIMEOUT)
        assert word.result(TIMEOUT) == "201 replayed"

    assert client.answers[-1].body == first.body
    assert Order.objects.count() == 1


def test_busy_mismatch_and_missing_key_have_codes_of_their_own() -> None:
    """FR-115: distinct, and on the page that clients are told to read."""
    with leading("/impatient/") as leader:
        busy = post("/impatient/", leader.key)
        leader.go_on()
    mismatch = post("/impatient/", leader.key, amount=2)
    missing = post("/impatient/")
    told = [
        (answer.json["code"], answer.status) for answer in (busy, mismatch, missing)
    ]

    assert told == [("in-flight", 409), ("key-reused", 422), ("key-missing", 400)]
    documented = re.findall(r"^## (\S+)\n\n\*\*(\d+)", PROBLEMS.read_text(), re.M)
    assert {(code, str(status)) for code, status in told} <= set(documented)
