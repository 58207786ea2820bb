"""What the gateway keeps when the server behind it fails."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client, override_settings

from example_project.gateway import backend

pytestmark = [
    pytest.mark.demo,
    pytest.mark.django_db,
    pytest.mark.urls("example_project.gateway.urls"),
]


def test_backend_out_of_reach_leaves_the_key_free() -> None:
    key = str(uuid.uuid4())

    with gateway_before(free_port()):
        answers = [post(key) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [503, 503]
    assert all("Idempotent-Replayed" not in answer.headers for answer in answers)


def test_lost_answer_is_never_asked_for_again() -> None:
    key = str(uuid.uuid4())

    with silent_server() as server, gateway_before(server.port):
        answers = [post(key) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [504, 504]
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    assert server.requests == 1


def test_errors_are_those_of_stripe() -> None:
    with gateway_before(free_port()):
        answer = post("not acceptable, because of its comma")

    assert answer.status_code == 400
    assert json.loads(answer.content)["error"]["type"] == "idempotency_error"


def post(key: str) -> Any:
    return Client().post(
        "/v1/payment_intents",
        {"amount": "1000"},
        headers={"Authorization": "Bearer sk_test_x", "Idempotency-Key": key},
    )


@contextmanager
def gateway_before(port: int) -> Iterator[None]:
    backend._client.cache_clear()
    with override_settings(
        GATEWAY_BACKEND_URL=f"http://127.0.0.1:{port}",
        GATEWAY_LATENCY=timedelta(0),
        IDEMPOTENCY_PRINCIPAL="example_project.gateway.api_keys.principal",
        IDEMPOTENCY_REPLAYED_HEADER="Idempotent-Replayed",
    ):
        yield
        backend._client().close()
    backend._client.cache_clear()


class SilentServer:
    """Takes requests and hangs up."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.requests = 0

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with closing(connection):
                if connection.recv(65536):
                    self.requests += 1


@contextmanager
def silent_server() -> Iterator[SilentServer]:
    server = SilentServer()
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.listener.shutdown(socket.SHUT_RDWR)
        server.listener.close()
        thread.join(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
