"""For your own test suite: find out whether an endpoint is really safe to repeat.

Framework-free: plain assertions, for pytest, unittest and REST framework's test client
alike.
"""

from __future__ import annotations

import copy
import json
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections
from django.http.response import HttpResponseBase
from django.test import Client

from .conf import conf
from .http import header_in_meta

__all__ = ["Call", "assert_idempotent"]

SECONDS_FOR_COPIES = 60
JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, without its key."""

    path: str
    data: Any = None
    """The body, as the client's ``post()`` takes it; what is sent as JSON may be a dict
    or a list for REST framework's client, too."""
    method: str = "post"
    content_type: str | None = JSON
    """``None``: what the client itself chooses, or is told by ``format`` in `extra`."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments for the client, such as ``headers``."""

    def send(self, client: Client, key: str) -> HttpResponseBase:
        data, options = self.data, dict(self.extra)
        if self.content_type is not None:
            options["content_type"] = self.content_type
        if self.content_type == JSON and isinstance(data, dict | list | tuple):
            data = json.dumps(data, cls=DjangoJSONEncoder)
        response: HttpResponseBase = getattr(client, self.method)(
            self.path, data, **options, **{header_in_meta(): key}
        )
        return response


def assert_idempotent(
    client: Client,
    call: Call,
    *,
    effects: Callable[[], object],
    other_data: Any,
    other_client: Client | None = None,
    copies: int = 8,
) -> None:
    """Assert that the call does its work once per key and answers each repeat alike.

    The call must succeed. It is made under a new key and repeated; sent with
    `other_data` under the same key; sent by `other_client`, somebody else's, under the
    same key; and under another new key `copies` times at once. Each time the effects
    and the answers are compared.

    `effects` returns whatever the call changes, as a value that can be compared:
    ``Order.objects.count``, or a function that also asks your fake payment provider.

    The copies run in threads and need real commits: ``TransactionTestCase``, or
    ``pytest.mark.django_db(transaction=True)``. Inside a plain ``TestCase`` pass
    ``copies=0``, and know that you have not tested the race.

    Raises:
        AssertionError: with a sentence that says what a customer would suffer.
    """
    if copies and any(each.in_atomic_block for each in connections.all()):
        raise AssertionError(
            "Copies sent at once can't see what an open transaction has written: use "
            "TransactionTestCase or django_db(transaction=True), or pass copies=0."
        )
    key = _new_key()
    change = _assert_done_once(client, call, key, effects)
    _assert_mismatch_is_refused(client, replace(call, data=other_data), key, effects)
    if other_client is not None:
        _assert_no_answer_crosses(other_client, call, key)
    if copies:
        _assert_copies_are_one(client, call, effects, change, copies)


def _assert_done_once(
    client: Client, call: Call, key: str, effects: Callable[[], object]
) -> object:
    """Return by how much the effects grew, if they are numbers."""
    before = effects()
    first = call.send(client, key)
    after = effects()
    _require(
        first.status_code < 400,
        f"The call must succeed to be repeated; it answered {first.status_code}: "
        f"{_beginning(first)}",
    )
    _require(
        before != after,
        "The first call changed nothing that effects() returns, so that doing it twice "
        "would not be noticed. Count what the view really writes.",
    )
    again = call.send(client, key)
    _require(
        effects() == after,
        f"The work was done twice: effects() went from {before!r} to {after!r} with the "
        f"first call and to {effects()!r} with its repeat. Is the view protected?",
    )
    _assert_same_answer(first, again)
    return _difference(before, after)


def _assert_same_answer(first: HttpResponseBase, again: HttpResponseBase) -> None:
    _require(
        _answer(first) == _answer(again),
        "The repeat got another answer than the first call: "
        f"{first.status_code} {_beginning(first)} and then "
        f"{again.status_code} {_beginning(again)}",
    )
    _require(
        _is_replay(again),
        f"The repeat was not marked with {conf.IDEMPOTENCY_REPLAYED_HEADER}: the view "
        "ran again, or something removed the header on the way.",
    )


def _assert_mismatch_is_refused(
    client: Client, call: Call, key: str, effects: Callable[[], object]
) -> None:
    before = effects()
    response = call.send(client, key)
    _require(
        effects() == before,
        "Another payload under the same key was carried out: a changed cart would be "
        "charged as well.",
    )
    _require(
        response.status_code == 422,
        "Another payload under the same key must be refused with 422 key-reused; it "
        f"got {response.status_code}. Does the policy's exclude or fingerprint leave "
        "out what makes the difference?",
    )


def _assert_no_answer_crosses(client: Client, call: Call, key: str) -> None:
    response = call.send(client, key)
    _require(
        not _is_replay(response),
        "Another caller with the same key was sent the first caller's answer. What "
        "does IDEMPOTENCY_PRINCIPAL return?",
    )


def _assert_copies_are_one(
    client: Client,
    call: Call,
    effects: Callable[[], object],
    change: object,
    copies: int,
) -> None:
    """Send copies in the same instant, each from a thread with its own connection."""
    key = _new_key()
    before = effects()
    responses = _storm(client, call, key, copies)
    after = effects()
    done = [each for each in responses if each.status_code < 400]
    _require(
        bool(done) and before != after,
        f"Of {copies} copies none was carried out: {_statuses(responses)}",
    )
    _require(
        all(each.status_code in (409, done[0].status_code) for each in responses),
        f"Copies in the same instant got {_statuses(responses)}; each must get the "
        "first answer, or 409 while it waits.",
    )
    fresh = [each for each in done if not _is_replay(each)]
    _require(
        len(fresh) == 1 and all(_answer(each) == _answer(fresh[0]) for each in done),
        f"{len(fresh)} of {copies} copies in the same instant were carried out; one "
        "must be, and the others must get its answer.",
    )
    _require(
        _difference(before, after) == change,
        f"{copies} copies in the same instant moved effects() from {before!r} to "
        f"{after!r}; one call moves it by {change!r}.",
    )
    again = call.send(client, key)
    _require(
        effects() == after and _is_replay(again),
        "After copies in the same instant a repeat ran once more.",
    )


def _storm(client: Client, call: Call, key: str, copies: int) -> list[HttpResponseBase]:
    barrier = threading.Barrier(copies, timeout=SECONDS_FOR_COPIES)

    def send(own_client: Client) -> HttpResponseBase:
        barrier.wait()
        try:
            return call.send(own_client, key)
        finally:
            connections.close_all()

    # A client is no more thread-safe than a browser; its cookies are what it is.
    clients = [copy.copy(client) for _ in range(copies)]
    for each in clients:
        each.raise_request_exception = False  # a crash is the answer of one copy
    with ThreadPoolExecutor(copies) as pool:
        return list(pool.map(send, clients, timeout=SECONDS_FOR_COPIES))


def _difference(before: Any, after: Any) -> object:
    """Return by how much numbers, or the numbers in a tuple, have grown.

    ``None`` where effects are anything else: then only the answers can be compared.
    """
    match before, after:
        case int(), int():
            return after - before
        case tuple(), tuple() if len(before) == len(after):
            return tuple(map(_difference, before, after))
        case _:
            return None


def _new_key() -> str:
    return str(uuid.uuid4())


def _is_replay(response: HttpResponseBase) -> bool:
    return response.headers.get(conf.IDEMPOTENCY_REPLAYED_HEADER) == "true"


def _answer(response: HttpResponseBase) -> tuple[int, bytes]:
    return response.status_code, getattr(response, "content", b"")


def _beginning(response: HttpResponseBase) -> str:
    return repr(getattr(response, "content", b"")[:200])


def _statuses(responses: Iterable[HttpResponseBase]) -> list[int]:
    return sorted(each.status_code for each in responses)


def _require(condition: bool, sentence: str) -> None:
    # Not the assert statement: Python leaves it out under -O.
    if not condition:
        raise AssertionError(sentence)
