"""A server at whose other end anything can happen: answers get lost, or are nobody's."""

import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from tests.support.client import connected


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    method: str
    path: str
    key: str | None
    headers: Mapping[str, str]
    body: bytes


class Exchange(BaseHTTPRequestHandler):
    """One request, and what is done with it."""

    protocol_version = "HTTP/1.1"
    wire: "Wire"
    received: Request

    def receive(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.received = Request(
            method=self.command,
            path=self.path,
            key=self.headers.get("Idempotency-Key"),
            headers=cast(Mapping[str, str], self.headers),
            body=self.rfile.read(length),
        )
        self.wire.next_act(self.received)(self)

    def cut(self) -> None:
        self.close_connection = True
        # Sent at once, as a reset, so that nobody waits for a polite end.
        self.connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        pass


for _method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"):
    setattr(Exchange, f"do_{_method}", Exchange.receive)

Act = Callable[[Exchange], None]


class Wire:
    """Does one thing after the other, the last one from then on."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.requests: list[Request] = []
        self.began: list[float] = []
        self._acts: deque[Act] = deque()
        self._lock = threading.Lock()

    def will(self, *acts: Act) -> None:
        self.requests.clear()
        self.began.clear()
        self._acts = deque(acts)

    @property
    def keys(self) -> list[str | None]:
        return [request.key for request in self.requests]

    def next_act(self, request: Request) -> Act:
        with self._lock:
            self.requests.append(request)
            self.began.append(time.monotonic())
            return self._acts.popleft() if len(self._acts) > 1 else self._acts[0]


@contextmanager
def wire() -> Iterator[Wire]:
    class Bound(Exchange):
        pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # the client has gone away

    with Server(("127.0.0.1", 0), Bound) as server:
        Bound.wire = Wire(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield Bound.wire
        finally:
            server.shutdown()
            thread.join()


def answer(status: int, body: bytes = b"{}", **headers: str) -> Act:
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def act(exchange: Exchange) -> None:
        exchange.send_response_only(status)
        for name, value in {"Content-Type": "application/json", **named}.items():
            exchange.send_header(name, value)
        exchange.send_header("Content-Length", str(len(body)))
        exchange.end_headers()
        exchange.wfile.write(body)

    return act


def ended(status: int) -> Act:
    return answer(status, Idempotency_Ended="true")


def problem(status: int, code: str, retry: str | None = None, **headers: str) -> Act:
    body = {"code": code} | ({} if retry is None else {"retry": retry})
    content_type = "application/problem+json"
    return answer(
        status, json.dumps(body).encode(), Content_Type=content_type, **headers
    )


def lose(exchange: Exchange) -> None:
    exchange.cut()


def lose_half(exchange: Exchange) -> None:
    exchange.send_response_only(201)
    exchange.send_header("Content-Length", "1000")
    exchange.end_headers()
    exchange.wfile.write(b"{")
    exchange.close_connection = True


def never_answer(exchange: Exchange) -> None:
    exchange.connection.settimeout(30)
    exchange.rfile.read(1)  # until the client gives up
    exchange.close_connection = True


def hand_on(upstream: str, then: Act | None = None) -> Act:
    """Let a real server do it, and then lose its answer, or send it."""

    def act(exchange: Exchange) -> None:
        request = exchange.received
        headers = {k: v for k, v in request.headers.items() if k.lower() != "host"}
        with closing(connected(upstream, 30)) as connection:
            connection.request(request.method, request.path, request.body, headers)
            response = connection.getresponse()
            body = response.read()
        if then is not None:
            then(exchange)
            return
        exchange.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in (
                "content-length",
                "transfer-encoding",
                "connection",
            ):
                exchange.send_header(name, value)
        exchange.send_header("Content-Length", str(len(body)))
        exchange.end_headers()
        exchange.wfile.write(body)

    return act
