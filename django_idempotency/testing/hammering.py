"""Many copies of one request in the same instant."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connections
from django.http.response import HttpResponseBase
from django.test import Client

from .calls import (
    Call,
    beginning,
    call_of,
    is_replay,
    new_key,
    require,
    require_commits,
    require_sync,
)
from .meeting import Meeting
from .outside import Recorder, observed
from .state import Change, differences, state_of, volatile

__all__ = ["hammer"]

SECONDS_FOR_COPIES = 60


def hammer(
    client: Client,
    call: Call | Callable[[], Call] | str,
    data: Any = None,
    *,
    copies: int = 32,
    outside: Collection[str] = (),
) -> None:
    """Assert that copies sent in the same instant have one effect and one answer.

    A call is made alone, to learn what it does, and then `copies` times at once under
    another key, each from a thread with a connection of its own. A copy may get 409
    while the first one runs. Afterwards each of the user's tables, the mails, the
    outside calls over HTTP and those of the functions named by `outside` must have
    changed as by one call.

    `call` is a path, with `data` for a POST as JSON; a `Call`; or a function that
    prepares what one needs, such as a cart, and returns it.

    Raises:
        AssertionError: with what has happened twice, or inside a test's transaction.
    """
    require_sync(client)
    require_commits("Copies sent at once can't see what")
    prepare = prepared(call, data)
    recorder = Recorder()
    with observed(recorder, outside):
        alone = [_change(client, prepare(), 1, recorder) for _ in range(2)]
        for change, _ in alone:
            require(
                bool(change.entries),
                "A call alone changed nothing in the tables, sent no mail and called "
                "nobody: there is nothing that could happen twice.",
            )
        expected, [first] = alone[0]
        together, answers = _change(client, prepare(), copies, recorder)
    ignored = volatile(expected, alone[1][0])
    said = differences(expected, together, ignored)
    statuses = sorted(Counter(each.status_code for each in answers).items())
    told = ", ".join(f"{number} times {status}" for status, number in statuses)
    require(
        not said,
        f"{copies} copies in the same instant did not have the effect of one:\n  "
        + "\n  ".join(said)
        + f"\nThey were answered with {told}.",
    )
    done = [each for each in answers if each.status_code == first.status_code]
    fresh = {getattr(each, "content", b"") for each in done if not is_replay(each)}
    require(
        all(each.status_code in (409, first.status_code) for each in answers)
        and len(fresh) == 1
        and all(getattr(each, "content", b"") in fresh for each in done),
        f"{copies} copies in the same instant had one effect, but not one answer: "
        f"{told}. Each must get the first answer, or 409 while that isn't there yet.",
    )


def prepared(call: Call | Callable[[], Call] | str, data: Any) -> Callable[[], Call]:
    """Return a function that makes the call anew, with what it needs."""
    return call if callable(call) else lambda: call_of(call, data)


def storm(client: Client, call: Call, key: str, copies: int) -> list[HttpResponseBase]:
    """Send copies in the same instant, each from a thread with its own connection."""
    barrier = threading.Barrier(copies, timeout=SECONDS_FOR_COPIES)
    meeting = Meeting(copies)

    def send(own_client: Client) -> HttpResponseBase:
        barrier.wait()
        try:
            with meeting.attended():
                return call.send(own_client, key)
        finally:
            connections.close_all()

    # A test client isn't thread-safe; a new one with its cookies is the same user.
    clients = [copy.copy(client) for _ in range(copies)]
    for each in clients:
        each.raise_request_exception = False  # a crash counts as one copy's answer
    with ThreadPoolExecutor(copies) as pool:
        return list(pool.map(send, clients, timeout=SECONDS_FOR_COPIES))


def _change(
    client: Client, call: Call, copies: int, recorder: Recorder
) -> tuple[Change, list[HttpResponseBase]]:
    key = new_key()
    before = state_of(recorder.calls)
    if copies == 1:
        answers = [call.send(client, key)]
        require(
            answers[0].status_code < 400,
            f"The call must succeed, but it was answered with "
            f"{answers[0].status_code}: {beginning(answers[0])}. If it can't be made "
            "twice, hand over a function that prepares what each call needs:\n\n"
            '    lambda: Call(path="/checkout/", data={"cart": make_cart().pk})',
        )
    else:
        answers = storm(client, call, key, copies)
    return Change.between(before, state_of(recorder.calls)), answers
