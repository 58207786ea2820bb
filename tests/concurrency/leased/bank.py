"""Program: a small bank and its post office; the first line of its output is the port.

``/charges`` honours keys, as Stripe does; ``/forgetful-charges`` charges each time. It
lists what it was asked and what it did, so that the counts come from the other side.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Ledger:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.asked: list[Any] = []
        """What came: pairs of service and number of the order."""
        self.done: list[Any] = []
        """What was carried out, in the same form."""
        self.receipts: dict[str, str] = {}

    def carry_out(self, service: str, key: str, number: int) -> str:
        kind = service.removeprefix("forgetful-")
        with self.lock:
            self.asked.append([kind, number])
            if key not in self.receipts or kind != service:
                self.done.append([kind, number])
                self.receipts[key] = f"{kind}-{len(self.done)}"
            return self.receipts[key]


ledger = Ledger()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        number = json.loads(body)["number"]
        key = self.headers["Idempotency-Key"]
        receipt = ledger.carry_out(self.path.strip("/"), key, number)
        self._answer({"receipt": receipt})

    def do_GET(self) -> None:
        """Look one receipt up by its key, or list everything."""
        key = self.path.strip("/")
        with ledger.lock:
            if key:
                self._answer({"receipt": ledger.receipts.get(key)})
            else:
                self._answer({"asked": ledger.asked, "done": ledger.done})

    def _answer(self, data: Any) -> None:
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


def main() -> None:
    server = Server(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
