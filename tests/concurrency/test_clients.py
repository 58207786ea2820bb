"""What stands before the shop and follows the rules: a proxy that resends, and a client."""

from __future__ import annotations

import http.client
import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.concurrency.answers import Answer, new_key, post_to
from tests.concurrency.servers import server
from tests.concurrency.storm import (
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

pytestmark = [
    pytest.mark.concurrency,
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
]

PROBLEMS = Path(__file__).parents[2] / "docs" / "reference" / "problems.md"


@dataclass
class Proxy:
    """Hands the same bytes on to the next upstream if one is dead, as nginx does."""

    upstreams: Sequence[str]
    patience_seconds: Sequence[float]
    tries: int = 0

    DEAD = frozenset({500, 502, 503, 504})

    def hand_on(self, message: bytes) -> Answer:
        for address, patience in zip(
            self.upstreams, self.patience_seconds, strict=True
        ):
            self.tries += 1
            try:
                answer = _exchange(address, message, patience)
            except OSError:
                until_waiting(1, AT_THE_GATE)  # a busy machine may take longer
                continue
            if answer.status not in self.DEAD:
                return answer
        raise AssertionError("no upstream is alive")


def _exchange(address: str, message: bytes, timeout: float) -> Answer:
    url = urlsplit(address)
    with socket.create_connection((url.hostname, url.port), timeout) as connection:
        connection.sendall(message)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return Answer(
            status=response.status,
            headers=dict(response.getheaders()),
            body=response.read(),
        )


def _message(path: str, key: str) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: testserver",
        "Content-Type: application/json",
        f"Idempotency-Key: {key}",
        "Content-Length: 13",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", '{"amount": 1}']).encode()


def test_copies_of_a_proxy_end_with_the_replay() -> None:
    """FR-114: the view outlasts two tries, and the third is in time for the answer."""
    with server() as one, server() as two, gate_closed() as gate, crew() as threads:
        message = _message("/patient/", new_key())
        first = Proxy([one.address, two.address], [1, 1])
        gave_up = start(threads, first.hand_on, message)
        until_waiting(1, AT_THE_GATE)
        until_waiting(1, AT_A_CLAIM)
        with pytest.raises(AssertionError, match="no upstream"):
            gave_up.result(TIMEOUT)
        last = start(threads, Proxy([one.address], [TIMEOUT]).hand_on, message)
        gate.open()
        answer = last.result(TIMEOUT)

    assert answer.word == "201 replayed"
    assert Order.objects.count() == 1


def test_proxy_takes_a_copy_in_flight_for_alive() -> None:
    """FR-114: three upstreams, the view takes longer than the proxy waits."""
    with server() as one, server() as two, gate_closed() as gate, crew() as threads:
        upstreams = [one.address, two.address, one.address]
        proxy = Proxy(upstreams, [1, TIMEOUT, TIMEOUT])
        answer = start(
            threads, proxy.hand_on, _message("/impatient/", new_key())
        ).result(TIMEOUT)
        gate.open()
        until(lambda: Order.objects.exists())

    assert (answer.word, answer.headers["Retry-After"]) == ("409 in-flight", "1")
    assert proxy.tries == 2
    assert Order.objects.count() == 1


def test_same_copies_without_protection_are_an_order_each() -> None:
    """The negative control."""
    with server() as one, server() as two, gate_closed() as gate, crew() as threads:
        proxy = Proxy([one.address, two.address, one.address], [1, 1, 1])
        gave_up = start(threads, proxy.hand_on, _message("/unprotected/", new_key()))
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


def test_client_that_comes_back_when_told_ends_with_the_replay() -> None:
    """FR-115."""
    key = new_key()
    with server() as shop, gate_closed() as gate, crew() as threads:
        leader = start(threads, post_to, shop.address, "/impatient/", key)
        until_waiting(1, AT_THE_GATE)
        client = Client(shop.address, "/impatient/")
        word = start(threads, client.buy, key)
        until(lambda: len(client.answers) >= 2)
        gate.open()
        first = leader.result(TIMEOUT)
        assert word.result(TIMEOUT) == "201 replayed"

    assert client.answers[-1].body == first.body
    assert Order.objects.count() == 1


def test_client_stops_at_a_mismatch() -> None:
    """FR-115."""
    key = new_key()
    with server() as shop:
        client = Client(shop.address, "/protected/")
        words = [client.buy(key), client.buy(key, amount=2)]

    assert words == ["201", "422 key-reused"]
    assert Order.objects.count() == 1


def test_busy_mismatch_and_missing_key_have_codes_of_their_own() -> None:
    """FR-115: distinct, and on the page that clients are told to read."""
    key = new_key()
    with server() as shop, gate_closed() as gate, crew() as threads:
        leader = start(threads, post_to, shop.address, "/impatient/", key)
        until_waiting(1, AT_THE_GATE)
        busy = post_to(shop.address, "/impatient/", key)
        gate.open()
        leader.result(TIMEOUT)
        mismatch = post_to(shop.address, "/impatient/", key, amount=2)
        missing = post_to(shop.address, "/impatient/")
    told = [
        (answer.json["code"], answer.status) for answer in (busy, mismatch, missing)
    ]

    assert told == [("in-flight", 409), ("key-reused", 422), ("key-missing", 400)]
    documented = re.findall(r"^## (\S+)\n\n\*\*(\d+)", PROBLEMS.read_text(), re.M)
    assert {(code, str(status)) for code, status in told} <= set(documented)
