"""Lets a view fail at every statement and outside call, and looks at the retry."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from django.db import connections
from django.http.response import HttpResponseBase
from django.test import Client

from .calls import (
    Call,
    beginning,
    code_of,
    new_key,
    require,
    require_commits,
    require_sync,
)
from .hammering import prepared
from .interruptions import AnswerLost, Points, ProcessEnded, watched
from .lines import Line, is_in_operation, is_of_the_package, line_of_user
from .outside import OutsideCall, observed
from .state import Change, differences, state_of, volatile

__all__ = ["crash_everywhere"]

# What atomic() says; what counts is what is inside.
OF_TRANSACTIONS = ("SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "COMMIT")


@dataclass(slots=True, kw_only=True)
class CrashPoints(Points):
    """Points, each with the line of the user's code; and the outside calls so far."""

    within: CodeType
    """The function that everything happens in."""
    calls: list[OutsideCall] = field(default_factory=list)
    lines: list[Line | None] = field(default_factory=list)
    is_open: bool = False

    def reach(self, point: str, failure: type[BaseException]) -> None:
        if self.is_open:
            self.lines.append(line_of_user(self.within))
            Points.reach(self, point, failure)

    def before(self, call: OutsideCall) -> None:
        self.reach(f"the process ended before {call.name}", ProcessEnded)

    def after(self, call: OutsideCall) -> None:
        self.calls.append(call)
        self.reach(f"the answer to {call.name} was lost", AnswerLost)
        self.reach(f"the process ended after {call.name}", ProcessEnded)

    def statement(
        self,
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,
        context: Any,
    ) -> Any:
        """Run a statement, with a point before it, and after it if it writes."""
        text = _text_of(sql, context)
        is_point = self.is_open and self._is_of_user(text)
        told = _told(text)
        if is_point:
            self.reach(f"the process ended before {told}", ProcessEnded)
        result = execute(sql, params, many, context)
        if is_point and text[:6].upper() != "SELECT":
            self.reach(f"the process ended after {told}", ProcessEnded)
        return result

    def _is_of_user(self, sql: str) -> bool:
        if sql.upper().startswith(OF_TRANSACTIONS) or is_of_the_package():
            return False
        return line_of_user(self.within) is not None or is_in_operation()

    def told(self, number: int) -> str:
        """Name a point that was reached, and the line."""
        line, when = self.lines[number], f"When {self.reached[number]}"
        return when if line is None else f"{line}\n  {when}"

    @contextmanager
    def opened(self, fails_at: int | None) -> Iterator[None]:
        """Count and fail inside; what comes afterwards, as the retry, goes well."""
        self.fails_at = fails_at
        self.reached.clear()
        self.lines.clear()
        self.is_open = True
        try:
            yield
        finally:
            self.is_open = False

    @contextmanager
    def installed(self, outside: Collection[str]) -> Iterator[None]:
        with ExitStack() as stack:
            for each in connections.all():
                stack.enter_context(each.execute_wrapper(self.statement))
            stack.enter_context(observed(self, outside))
            stack.enter_context(watched(self, with_senders=False))
            yield


def _text_of(sql: Any, context: Any) -> str:
    """The statement, which psycopg also takes as bytes and in pieces."""
    if isinstance(sql, bytes):
        sql = sql.decode(errors="replace")
    elif not isinstance(sql, str):
        sql = sql.as_string(context["cursor"].cursor)
    return str(sql).strip()


def _told(sql: str) -> str:
    """Name a statement by what it does to which table, as every database would."""
    sql = " ".join(sql.split())
    found = re.match(r"(SELECT|INSERT INTO|UPDATE|DELETE FROM)\b", sql, re.IGNORECASE)
    table = re.search(r"\b(?:FROM|INTO|UPDATE) [\"`]?(\w+)", sql, re.IGNORECASE)
    if found is None or table is None:
        return sql[:60]
    return f"{found[1].upper().replace('SELECT', 'SELECT … FROM')} {table[1]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What a failure at one point has led to."""

    point: str
    """With the line of the user's code."""
    said: tuple[str, ...]


def crash_everywhere(
    client: Client,
    call: Call | Callable[[], Call] | str,
    data: Any = None,
    *,
    outside: Collection[str] = (),
) -> list[str]:
    """Assert that a retry completes the call wherever it has failed.

    The call is made once for each point, under a new key. It fails there, and is made
    again under the same key. Points are before each SQL statement of the view and after
    each that writes, in callbacks of ``on_commit`` as well; before and after each mail,
    each call over HTTP by httpx, requests or urllib3, and each function that `outside`
    names, as ``unittest.mock.patch`` takes it; around the steps of
    ``request.idempotency``; and at the end.
    Afterwards the user's tables, the mails and the outside calls must have changed as by
    one call that goes well, however their columns of times and random values differ.

    `call` is a path, with `data` for a POST as JSON; a `Call`; or a function that
    prepares what one needs, such as a cart, and returns it. Two calls that go well are
    made first, so a call that can't be made twice needs the function.

    Returns the points, to be counted or printed.

    Raises:
        AssertionError: with the line of your code after which something happened twice
            or was lost; or inside a test's transaction.
    """
    require_sync(client)
    require_commits("A failure can't be told from what")
    client = copy.copy(client)
    trials = _Trials(client=client, prepare=prepared(call, data))
    with trials.points.installed(outside):
        expected = [trials.that_goes_well() for _ in range(2)]
        ignored = volatile(*expected)
        reached = list(trials.points.reached)
        require(
            bool(reached),
            "The view ran no statement, made no outside call and went through no step. "
            "Is it protected, and is it the view that you mean?",
        )
        client.raise_request_exception = False
        found = [
            damage
            for number in range(len(reached))
            if (damage := trials.that_fails_at(number, expected[1], ignored))
        ]
    require(not found, _report(found, len(reached)))
    return reached


class _Trials:
    """Makes a call go well, or fail at a point and come again."""

    def __init__(self, *, client: Client, prepare: Callable[[], Call]) -> None:
        self.client = client
        self.prepare = prepare
        self.points = CrashPoints(within=_send.__code__)

    def that_goes_well(self) -> Change:
        call, key = self.prepare(), new_key()
        before = self._state()
        with self.points.opened(None):
            response = _send(self.client, call, key)
        require(
            response.status_code < 400,
            "The call must succeed before it can fail, but it was answered with "
            f"{response.status_code}: {beginning(response)}. If it can't be made twice, "
            "hand over a function that prepares what each call needs:\n\n"
            '    lambda: Call(path="/checkout/", data={"cart": make_cart().pk})',
        )
        return Change.between(before, self._state())

    def that_fails_at(
        self, number: int, expected: Change, ignored: set[tuple[str, str]]
    ) -> Damage | None:
        call, key = self.prepare(), new_key()
        before = self._state()
        with suppress(ProcessEnded), self.points.opened(number):
            _send(self.client, call, key)
        if number >= len(self.points.reached):
            return None  # this time it went another way, as with a warm cache
        point = self.points.told(number)
        between = self._state()
        response = _send(self.client, call, key)
        after = self._state()
        said = differences(expected, Change.between(before, after), ignored)
        is_refused = 400 <= response.status_code < 500
        if (
            is_refused
            and after == between
            and (code_of(response) == "outcome-unknown" or between == before)
        ):
            return None  # held for a person; or refused, and nothing was done
        if response.status_code >= 400:
            said = [
                f"the retry was answered with {response.status_code}: "
                f"{beginning(response)}",
                *said,
            ]
        return Damage(point=point, said=tuple(said)) if said else None

    def _state(self) -> Any:
        return state_of(self.points.calls)


def _send(client: Client, call: Call, key: str) -> HttpResponseBase:
    return call.send(client, key)


def _report(found: list[Damage], points: int) -> str:
    """Tell each kind of damage once, with the first point that leads to it."""
    kinds: dict[tuple[str, ...], list[Damage]] = {}
    for each in found:
        kinds.setdefault(each.said, []).append(each)
    paragraphs = [
        f"{len(found)} of {points} failures did damage that a retry did not make good."
    ]
    for said, cases in kinds.items():
        more = f" (and at {len(cases) - 1} more)" if len(cases) > 1 else ""
        told = "\n".join(f"  {each}" for each in said)
        paragraphs.append(f"{cases[0].point}{more}:\n{told}")
    paragraphs.append(ADVICE)
    return "\n\n".join(paragraphs)


ADVICE = """\
Ask the other side by request.idempotency.call("…", lambda key: …), which hands over the
same key at each retry. With a lease, write in request.idempotency.write("…", …). What
must not be lost after the commit belongs into the transaction."""
