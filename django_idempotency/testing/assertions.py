"""Find out whether an endpoint is really safe to repeat.

Framework-free: plain assertions, for pytest, unittest and REST framework's test client
alike.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from django.http.response import HttpResponseBase
from django.test import Client

from django_idempotency.conf import conf
from django_idempotency.http.endings import EXPIRES_HEADER

from .calls import (
    Call,
    beginning,
    call_of,
    code_of,
    is_replay,
    new_key,
    require,
    require_commits,
    require_sync,
)
from .effects import difference, is_counted
from .hammering import storm
from .interruptions import Points, ProcessEnded, watched
from .outside import Recorder, observed
from .state import Change, State, state_of

__all__ = ["assert_idempotent"]


def assert_idempotent(
    client: Client,
    call: Call | str,
    data: Any = None,
    *,
    effects: Callable[[], object] | None = None,
    other_data: Any = None,
    other_client: Client | None = None,
    copies: int = 8,
    faults: bool = True,
    outside: Collection[str] = (),
    ignore_headers: Collection[str] = (),
) -> None:
    """Assert that the call does its work once per key and answers each repeat alike.

    The call must succeed. It is made under a new key and repeated; with `other_data`,
    sent with that under the same key; sent by `other_client`, signed in as another user,
    under the same key; and sent `copies` times at once under another new key. With
    `faults` it is made once more for each point at which it can fail, under a new key:
    before each step, where the answer to an outside call is lost, and at the end; and
    then retried. Each time the effects and the answers are compared: status, body and
    headers, but for those that are never replayed and `ignore_headers`.

    `call` is a path, with `data` for a POST as JSON; or a `Call`.

    `effects` returns what the call changes, as a value that can be compared:
    ``Order.objects.count``, or a function that also asks your fake payment provider,
    which has to treat keys as the real one does. Without, it is all rows of your tables,
    the mails, the calls over HTTP and those of the functions named by `outside`.

    The copies run in threads and need real commits: ``TransactionTestCase``, or
    ``pytest.mark.django_db(transaction=True)``. Inside a plain ``TestCase`` pass
    ``copies=0``, and know that you have not tested the race.

    Raises:
        AssertionError: with a message that says what would happen to a customer.
    """
    require_sync(client)
    if copies:
        require_commits("Copies sent at once can't see what", ", or pass copies=0")
    call = call_of(call, data)
    with ExitStack() as stack:
        if effects is None:
            recorder = Recorder()
            stack.enter_context(observed(recorder, outside))
            effects = lambda: state_of(recorder.calls)  # noqa: E731
        key = new_key()
        points = Points()
        change = _assert_done_once(client, call, key, effects, points, ignore_headers)
        if other_data is not None:
            other = replace(call, data=other_data)
            _assert_mismatch_is_refused(client, other, key, effects)
        if other_client is not None:
            _assert_no_answer_crosses(other_client, call, key)
        if copies:
            _assert_copies_are_one(client, call, effects, change, copies)
        if not faults:
            return
        require(
            is_counted(change),
            "effects() returns what can't be counted. Return numbers, or what has a "
            "length, so that a retry can be compared with a call that didn't fail; or "
            "pass faults=False.",
        )
        for number, point in enumerate(points.reached):
            _assert_retry_completes(client, call, effects, change, number, point)


def _assert_done_once(
    client: Client,
    call: Call,
    key: str,
    effects: Callable[[], object],
    points: Points,
    ignore_headers: Collection[str],
) -> object:
    """Make the call twice; return by how much the effects grew, if that can be counted."""
    before = effects()
    with watched(points):
        first = call.send(client, key)
    after = effects()
    require(
        first.status_code < 400,
        f"The call must succeed, but it was answered with {first.status_code}: "
        f"{beginning(first)}",
    )
    require(
        before != after,
        "The first call changed nothing that effects() returns, so doing it twice would "
        "go unnoticed. Count what the view really writes.",
    )
    again = call.send(client, key)
    _assert_nothing_more(before, after, effects())
    _assert_same_answer(first, again, ignore_headers)
    return difference(before, after)


def _assert_nothing_more(before: object, after: object, at_last: object) -> None:
    if isinstance(after, State) and isinstance(at_last, State):
        more = Change.between(after, at_last).told()
        require(
            not more,
            "The repeat has done something once more. Is the view protected, and what is "
            "above the protection?\n  " + "\n  ".join(more),
        )
    require(
        at_last == after,
        f"The work was done twice: effects() went from {before!r} to {after!r} with the "
        f"first call and to {at_last!r} with its repeat. Is the view protected?",
    )


def _assert_same_answer(
    first: HttpResponseBase, again: HttpResponseBase, ignore_headers: Collection[str]
) -> None:
    require(
        _answer(first) == _answer(again),
        "The repeat got another answer than the first call: "
        f"{first.status_code} {beginning(first)} and then "
        f"{again.status_code} {beginning(again)}",
    )
    ignored = {
        each.lower()
        for each in (
            *ignore_headers,
            *conf.IDEMPOTENCY_HEADER_DENY_LIST,
            conf.IDEMPOTENCY_REPLAYED_HEADER,
            # The first one may say it by the clock of its process, which can differ by
            # a second from what the row says.
            EXPIRES_HEADER,
        )
    }
    differing = [
        name
        for name in {**first.headers, **again.headers}
        if name.lower() not in ignored
        and first.headers.get(name) != again.headers.get(name)
    ]
    require(
        not differing,
        f"The repeat got other headers than the first call: {', '.join(differing)}. If a "
        "middleware sets them anew for each response, name them in ignore_headers.",
    )
    require(
        is_replay(again),
        f"The repeat was not marked with {conf.IDEMPOTENCY_REPLAYED_HEADER}: the view "
        "ran again, or something removed the header on the way.",
    )


def _assert_mismatch_is_refused(
    client: Client, call: Call, key: str, effects: Callable[[], object]
) -> None:
    before = effects()
    response = call.send(client, key)
    require(
        effects() == before,
        "Another payload under the same key was carried out: a changed cart would be "
        "charged as well.",
    )
    require(
        response.status_code == 422,
        "Another payload under the same key must be refused with 422 key-reused; it "
        f"got {response.status_code}. Does the policy's exclude or fingerprint leave "
        "out what makes the difference?",
    )


def _assert_no_answer_crosses(client: Client, call: Call, key: str) -> None:
    response = call.send(client, key)
    require(
        not is_replay(response),
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
    key = new_key()
    before = effects()
    responses = storm(client, call, key, copies)
    after = effects()
    done = [each for each in responses if each.status_code < 400]
    require(
        bool(done) and before != after,
        f"None of {copies} copies was carried out: {_statuses(responses)}",
    )
    require(
        all(each.status_code in (409, done[0].status_code) for each in responses),
        f"Copies in the same instant got {_statuses(responses)}; each must get the "
        "first answer, or 409 while that isn't there yet.",
    )
    fresh = [each for each in done if not is_replay(each)]
    require(
        len(fresh) == 1 and all(_answer(each) == _answer(fresh[0]) for each in done),
        f"{len(fresh)} of {copies} copies in the same instant were carried out; exactly "
        "one must be, and the others must get its answer.",
    )
    require(
        difference(before, after) == change,
        f"{copies} copies in the same instant moved effects() from {before!r} to "
        f"{after!r}, but one call moves it by {change!r}.",
    )
    again = call.send(client, key)
    require(
        effects() == after and is_replay(again),
        "After copies in the same instant, a repeat ran the view once more.",
    )


def _assert_retry_completes(
    client: Client,
    call: Call,
    effects: Callable[[], object],
    change: object,
    number: int,
    point: str,
) -> None:
    """Let a call under a new key fail at this point, and retry it."""
    key = new_key()
    client = copy.copy(client)
    client.raise_request_exception = False
    before = effects()
    with suppress(ProcessEnded), watched(Points(fails_at=number)):
        call.send(client, key)
    between = effects()
    response = call.send(client, key)
    after = effects()
    if code_of(response) == "outcome-unknown" and after == between:
        return  # held for a person, who decides
    if 400 <= response.status_code < 500 and after == before:
        return  # the customer was told that nothing was done, and nothing was
    require(
        response.status_code < 400,
        f"When {point}, the retry was answered with {response.status_code}: "
        f"{beginning(response)}",
    )
    require(
        difference(before, after) == change,
        f"When {point}, attempt and retry together moved effects() from {before!r} to "
        f"{after!r}, but one call moves it by {change!r}. Call outside by call() or with "
        "a key from key_for(), and with a lease write in write().",
    )


def _answer(response: HttpResponseBase) -> tuple[int, bytes]:
    return response.status_code, getattr(response, "content", b"")


def _statuses(responses: Iterable[HttpResponseBase]) -> list[int]:
    return sorted(each.status_code for each in responses)
