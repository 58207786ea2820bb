"""Find out whether an endpoint is really safe to repeat.

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
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections
from django.http.response import HttpResponseBase
from django.test import Client

from django_idempotency.conf import conf
from django_idempotency.http.requests import header_in_meta

from .effects import difference, is_counted
from .interruptions import Points, ProcessEnded, watched

__all__ = ["Call", "assert_idempotent"]

SECONDS_FOR_COPIES = 60
JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request without its key."""

    path: str
    data: Any = None
    """The body as the client's ``post()`` takes it. With REST framework's client, too,
    JSON may be given as a dict or a list."""
    method: str = "post"
    content_type: str | None = JSON
    """``None``: the client's default, or what ``format`` in `extra` says."""
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
    faults: bool = True,
) -> None:
    """Assert that the call does its work once per key and answers each repeat alike.

    The call must succeed. It is made under a new key and repeated; sent with
    `other_data` under the same key; sent by `other_client`, signed in as another user,
    under the same key; and sent `copies` times at once under another new key. With
    `faults` it is made once more for each point at which it can fail, under a new key:
    before each step, where the answer to an outside call is lost, and at the end; and
    then retried. Each time the effects and the answers are compared.

    `effects` returns what the call changes, as a value that can be compared:
    ``Order.objects.count``, or a function that also asks your fake payment provider,
    which has to treat keys as the real one does.

    The copies run in threads and need real commits: ``TransactionTestCase``, or
    ``pytest.mark.django_db(transaction=True)``. Inside a plain ``TestCase`` pass
    ``copies=0``, and know that you have not tested the race.

    Raises:
        AssertionError: with a message that says what would happen to a customer.
    """
    if copies and any(each.in_atomic_block for each in connections.all()):
        raise AssertionError(
            "Copies sent at once can't see what an open transaction has written: use "
            "TransactionTestCase or django_db(transaction=True), or pass copies=0."
        )
    key = _new_key()
    points = Points()
    change = _assert_done_once(client, call, key, effects, points)
    _assert_mismatch_is_refused(client, replace(call, data=other_data), key, effects)
    if other_client is not None:
        _assert_no_answer_crosses(other_client, call, key)
    if copies:
        _assert_copies_are_one(client, call, effects, change, copies)
    if faults:
        _require(
            is_counted(change),
            "effects() returns what can't be counted. Return numbers, or what has a "
            "length, so that a retry can be compared with a call that didn't fail; or "
            "pass faults=False.",
        )
        for number, point in enumerate(points.reached):
            _assert_retry_completes(client, call, effects, change, number, point)


def _assert_done_once(
    client: Client, call: Call, key: str, effects: Callable[[], object], points: Points
) -> object:
    """Make the call twice; return by how much the effects grew, if that can be counted."""
    before = effects()
    with watched(points):
        first = call.send(client, key)
    after = effects()
    _require(
        first.status_code < 400,
        f"The call must succeed, but it was answered with {first.status_code}: "
        f"{_beginning(first)}",
    )
    _require(
        before != after,
        "The first call changed nothing that effects() returns, so doing it twice would "
        "go unnoticed. Count what the view really writes.",
    )
    again = call.send(client, key)
    _require(
        effects() == after,
        f"The work was done twice: effects() went from {before!r} to {after!r} with the "
        f"first call and to {effects()!r} with its repeat. Is the view protected?",
    )
    _assert_same_answer(first, again)
    return difference(before, after)


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
        "Another caller with the same key got the first caller's answer. What does "
        "IDEMPOTENCY_PRINCIPAL return?",
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
        f"None of {copies} copies was carried out: {_statuses(responses)}",
    )
    _require(
        all(each.status_code in (409, done[0].status_code) for each in responses),
        f"Copies in the same instant got {_statuses(responses)}; each must get the "
        "first answer, or 409 while that isn't there yet.",
    )
    fresh = [each for each in done if not _is_replay(each)]
    _require(
        len(fresh) == 1 and all(_answer(each) == _answer(fresh[0]) for each in done),
        f"{len(fresh)} of {copies} copies in the same instant were carried out; exactly "
        "one must be, and the others must get its answer.",
    )
    _require(
        difference(before, after) == change,
        f"{copies} copies in the same instant moved effects() from {before!r} to "
        f"{after!r}, but one call moves it by {change!r}.",
    )
    again = call.send(client, key)
    _require(
        effects() == after and _is_replay(again),
        "After copies in the same instant, a repeat ran the view once more.",
    )


def _storm(client: Client, call: Call, key: str, copies: int) -> list[HttpResponseBase]:
    barrier = threading.Barrier(copies, timeout=SECONDS_FOR_COPIES)

    def send(own_client: Client) -> HttpResponseBase:
        barrier.wait()
        try:
            return call.send(own_client, key)
        finally:
            connections.close_all()

    # A test client isn't thread-safe; a new one with its cookies is the same user.
    clients = [copy.copy(client) for _ in range(copies)]
    for each in clients:
        each.raise_request_exception = False  # a crash counts as one copy's answer
    with ThreadPoolExecutor(copies) as pool:
        return list(pool.map(send, clients, timeout=SECONDS_FOR_COPIES))


def _assert_retry_completes(
    client: Client,
    call: Call,
    effects: Callable[[], object],
    change: object,
    number: int,
    point: str,
) -> None:
    """Let a call under a new key fail at this point, and retry it."""
    key = _new_key()
    client = copy.copy(client)
    client.raise_request_exception = False
    before = effects()
    with suppress(ProcessEnded), watched(Points(fails_at=number)):
        call.send(client, key)
    between = effects()
    response = call.send(client, key)
    after = effects()
    if _code(response) == "outcome-unknown" and after == between:
        return  # held for a person, who decides
    if 400 <= response.status_code < 500 and after == before:
        return  # the customer was told that nothing was done, and nothing was
    _require(
        response.status_code < 400,
        f"When {point}, the retry was answered with {response.status_code}: "
        f"{_beginning(response)}",
    )
    _require(
        difference(before, after) == change,
        f"When {point}, attempt and retry together moved effects() from {before!r} to "
        f"{after!r}, but one call moves it by {change!r}. Call outside by call() or with "
        "a key from key_for(), and with a lease write in write().",
    )


def _new_key() -> str:
    return str(uuid.uuid4())


def _is_replay(response: HttpResponseBase) -> bool:
    return response.headers.get(conf.IDEMPOTENCY_REPLAYED_HEADER) == "true"


def _answer(response: HttpResponseBase) -> tuple[int, bytes]:
    return response.status_code, getattr(response, "content", b"")


def _code(response: HttpResponseBase) -> str | None:
    """The code of the problem that was answered, if it is one."""
    if response.headers.get("Content-Type") != "application/problem+json":
        return None
    code: str | None = json.loads(getattr(response, "content", b"")).get("code")
    return code


def _beginning(response: HttpResponseBase) -> str:
    return repr(getattr(response, "content", b"")[:200])


def _statuses(responses: Iterable[HttpResponseBase]) -> list[int]:
    return sorted(each.status_code for each in responses)


def _require(condition: bool, sentence: str) -> None:
    # Not an assert statement, which Python removes under -O.
    if not condition:
        raise AssertionError(sentence)
