"""Program: a payment provider that lists its charges.

It takes a listening socket's descriptor. What it is to do to a call comes with the call,
since the shop that is being tested must not know.
"""

import json
import socket
import sys
import threading
import time
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.faults.conditions import CALL_SECONDS

FORGETFUL = "/forgetful/"
"""Here it charges each time that it is asked."""

LEISURELY = "/leisurely/"
"""Here as well, and it takes its time before it does."""

SLOW_SECONDS, VERY_SLOW_SECONDS = 0.3, 1.0
"""Below and above what the shop waits for an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    id: str
    key: str
    operation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What the provider says, to whoever compares."""

    charges: list[Charge]
    asked: list[int]
    """The operations of all requests, in their order."""
    refusals: list[int]
    """Operations whose key had been used for another one."""


class Books:
    """All charges; one per key, where keys are honoured."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_key: dict[str, Charge] = {}
        self.listing = Listing(charges=[], asked=[], refusals=[])

    def listed(self) -> dict[str, Any]:
        with self.lock:
            return asdict(self.listing)

    def charge(self, key: str, operation: int, *, is_forgetful: bool) -> Charge | None:
        with self.lock:
            self.listing.asked.append(operation)
            if is_forgetful or (charge := self.by_key.get(key)) is None:
                name = f"ch_{len(self.listing.charges) + 1}"
                charge = Charge(id=name, key=key, operation=operation)
                self.listing.charges.append(charge)
                self.by_key[key] = charge
            if charge.operation != operation:
                self.listing.refusals.append(operation)
                return None
            return charge


class Turns:
    """Knows which connections came before others."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.numbers: dict[Any, int] = {}
        self.count = 0

    def begin(self, connection: Any) -> None:
        with self.changed:
            self.count += 1
            self.numbers[connection] = self.count

    def end(self, connection: Any) -> None:
        with self.changed:
            self.numbers.pop(connection, None)
            self.changed.notify_all()

    def wait_for_earlier(self, connection: Any) -> bool:
        with self.changed:
            mine = self.numbers[connection]
            return self.changed.wait_for(
                lambda: min(self.numbers.values()) == mine, timeout=60
            )


BOOKS, TURNS = Books(), Turns()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Look one charge up by its key, or list everything."""
        if key := self.path.strip("/"):
            charge = BOOKS.by_key.get(key)
            self._answer(200, {"id": charge and charge.id})
        # Whoever asks for the list wants to know what became of all that was sent.
        elif TURNS.wait_for_earlier(self.connection):
            self._answer(200, BOOKS.listed())
        else:
            self._answer(503, {})

    def do_POST(self) -> None:
        wish = self.headers["X-Fault"] or ""
        length = int(self.headers["Content-Length"])
        operation = json.loads(self.rfile.read(length))["operation"]
        seconds = VERY_SLOW_SECONDS if wish.startswith("very") else SLOW_SECONDS
        if self.path == LEISURELY:
            time.sleep(CALL_SECONDS)
        if wish in ("slow", "very-slow"):
            time.sleep(seconds)
        if wish == "fail":
            self._answer(500, {})
            return
        charge = BOOKS.charge(
            self.headers["Idempotency-Key"],
            operation,
            is_forgetful=self.path in (FORGETFUL, LEISURELY),
        )
        if wish in ("slow-after", "very-slow-after"):
            time.sleep(seconds)
        if wish == "lose":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if wish == "fail-after":
            self._answer(500, {})
        elif charge is None:
            self._answer(400, {})
        else:
            self._answer(201, asdict(charge))

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""

    def _answer(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    def process_request(self, request: Any, client_address: Any) -> None:
        TURNS.begin(request)  # in the order in which they were accepted
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        TURNS.end(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A shop that hung up, or was killed, is what this is about."""


def main() -> None:
    listener = socket.socket(fileno=int(sys.argv[1]))
    server = Server(listener.getsockname(), Handler, bind_and_activate=False)
    server.socket = listener
    server.serve_forever()


if __name__ == "__main__":
    main()
