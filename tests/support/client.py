"""What a client got, told in few words: storms are compared by counting the words."""

import http.client
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.test import Client, RequestFactory


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def word(self) -> str:
        """``201``, ``201 replayed`` or ``409 in-flight``."""
        if self.headers.get("Idempotency-Replayed") == "true":
            return f"{self.status} replayed"
        if self.headers.get("Content-Type") == "application/problem+json":
            return f"{self.status} {self.json['code']}"
        return str(self.status)


def told(answers: Iterable[Answer]) -> dict[str, int]:
    return dict(Counter(answer.word for answer in answers))


def new_key() -> str:
    """An unguessable key, as a guest has to send."""
    return str(uuid.uuid4())


def post(
    path: str, key: str | None = None, *, amount: int = 1, client: Client | None = None
) -> Answer:
    """Send a request inside this process; an exception of the view is a 500."""
    client = client or Client()
    client.raise_request_exception = False
    response = client.post(
        path, {"amount": amount}, content_type="application/json", headers=_headers(key)
    )
    return _answer(response)


def call(
    view: Callable[..., Any], key: str | None = None, *, amount: int = 1
) -> Answer:
    """Call the view itself, in whatever transaction is open here."""
    request = RequestFactory().post(
        "/called/",
        {"amount": amount},
        content_type="application/json",
        headers=_headers(key),
    )
    return _answer(view(request))


def post_to(
    address: str,
    path: str,
    key: str | None = None,
    *,
    amount: int = 1,
    timeout: float = 30,
) -> Answer:
    """Send a request to a server process.

    Raises:
        TimeoutError: if it does not answer in `timeout` seconds.
        OSError, http.client.HTTPException: if the server dies before it answers.
    """
    with closing(connected(address, timeout)) as connection:
        return exchange(connection, path, {"amount": amount}, _headers(key))


def connected(address: str, timeout: float) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(address).netloc, timeout=timeout)


def exchange(
    connection: http.client.HTTPConnection,
    path: str,
    content: bytes | dict[str, Any],
    headers: Mapping[str, str],
) -> Answer:
    """Send JSON over a connection that may be kept open."""
    ask(connection, path, content, headers)
    return received(connection)


def ask(
    connection: http.client.HTTPConnection,
    path: str,
    content: bytes | dict[str, Any],
    headers: Mapping[str, str],
) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content)
    sent = {"Content-Type": "application/json", **headers}
    connection.request("POST", path, body, sent)


def received(connection: http.client.HTTPConnection) -> Answer:
    response = connection.getresponse()
    return Answer(
        status=response.status,
        headers=dict(response.getheaders()),
        body=response.read(),
    )


def _answer(response: Any) -> Answer:
    return Answer(
        status=response.status_code,
        headers=dict(response.headers),
        body=response.getvalue(),
    )


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Idempotency-Key": key}
