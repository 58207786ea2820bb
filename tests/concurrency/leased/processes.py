"""The bank and the checkout as processes of their own, and a client of theirs."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from tests.concurrency.answers import Answer
from tests.concurrency.leased.checkout import BANK_VARIABLE
from tests.concurrency.leased.serve import CLOCK_VARIABLE
from tests.concurrency.servers import environment
from tests.concurrency.storm import TIMEOUT

__all__ = ["Bank", "Shop", "bank", "order", "shop"]

DIED = (OSError, http.client.HTTPException)
"""What a client sees of a server that dies before it answers."""


@dataclass(frozen=True, slots=True)
class Bank:
    address: str

    def counts(self, what: str) -> Counter[tuple[str, int]]:
        """How often each service was ``asked`` or ``done``, per number of an order."""
        bank = http.client.HTTPConnection(
            urlsplit(self.address).netloc, timeout=TIMEOUT
        )
        try:
            bank.request("GET", "/")
            listed = json.loads(bank.getresponse().read())[what]
        finally:
            bank.close()
        return Counter((service, number) for service, number in listed)


@dataclass(frozen=True, slots=True)
class Shop:
    address: str
    pid: int

    def stopped(self) -> list[int]:
        """The processes of requests that have stopped themselves."""
        found = []
        for worker in psutil.Process(self.pid).children():
            with suppress(psutil.NoSuchProcess):
                if worker.status() == psutil.STATUS_STOPPED:
                    found.append(worker.pid)
        return found

    def go_on(self) -> None:
        for worker in self.stopped():
            os.kill(worker, signal.SIGCONT)


@contextmanager
def bank() -> Iterator[Bank]:
    with _program("tests.concurrency.leased.bank") as (address, _):
        yield Bank(address)


@contextmanager
def shop(of: Bank, *, clock_seconds: int = 0) -> Iterator[Shop]:
    """Serve the checkout, by a clock that is so much fast."""
    more = {BANK_VARIABLE: of.address, CLOCK_VARIABLE: str(clock_seconds)}
    with _program("tests.concurrency.leased.serve", **more) as (address, pid):
        yield Shop(address, pid)


@contextmanager
def _program(name: str, **more: str) -> Iterator[tuple[str, int]]:
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", name],
        cwd=Path(__file__).parents[3],
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        assert port, f"{name} did not start"
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # with the workers, stopped ones too
        process.wait(TIMEOUT)
        process.stdout.close()


def order(
    at: Shop,
    path: str,
    key: str,
    number: int,
    *,
    doom: int | None = None,
    by: signal.Signals = signal.SIGKILL,
) -> Answer | None:
    """Send an order; its process gets a signal at the point `doom`.

    ``None``: the server has died before it answered.
    """
    headers: dict[str, Any] = {"Idempotency-Key": key}
    if doom is not None:
        headers |= {"Doom-At": str(doom), "Doom-Signal": by.name}
    client = http.client.HTTPConnection(urlsplit(at.address).netloc, timeout=TIMEOUT)
    try:
        client.request("POST", f"/{path}/", json.dumps({"number": number}), headers)
        response = client.getresponse()
        return Answer(
            status=response.status,
            headers=dict(response.getheaders()),
            body=response.read(),
        )
    except DIED:
        return None
    finally:
        client.close()
