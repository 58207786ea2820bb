"""The values that one protected request is made of."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property

from .fingerprints import Fingerprint
from .keys import digest_id

TASKS = "task"
"""The principal of all work outside of requests."""
TASK = "TASK"
"""Stands for the method in the scope of work outside of requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose key it is, and where: two equal keys meet only in equal scopes."""

    principal: str
    method: str
    path: str
    """Decoded, or what the project's hook makes of it.

    The client repeats the path, whereas names of URL patterns may change.
    """

    def __str__(self) -> str:
        return f"{self.principal}|{self.method}|{self.path}"


@dataclass(slots=True)
class Course:
    """How far one try has come, by this process's own clock; its engine notes it."""

    begun: float = field(default_factory=time.monotonic)
    """When it was asked for."""
    started: float | None = None
    """When its work began; ``None``: it was answered without."""
    ended: float | None = None
    """When the work returned or raised."""
    took_over: bool = False
    kept_until: int | None = None
    """By the database, if it has said so with the claim."""

    def start(self, *, took_over: bool) -> None:
        self.started = time.monotonic()
        self.took_over = took_over

    def end(self) -> None:
        if self.ended is None:
            self.ended = time.monotonic()


@dataclass(frozen=True, slots=True)
class Intent:
    """That the same under another key is asked about before it is done."""

    window: timedelta
    """For how long, counted from the end of the first one."""
    confirms: str = ""
    """The reference of the first one, if the client knows it and means another one."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What somebody wants done once, as one request or call asks for it."""

    scope: Scope
    key: str
    fingerprint: Fingerprint
    wait: timedelta
    """How long this attempt may wait in total; zero means not to wait."""
    retention: timedelta
    using: str
    """The alias of the database that its record is in."""
    tombstone: timedelta = timedelta(0)
    """How long after its retention a repeat is refused instead of being done anew."""
    trace: str = ""
    """The id of the request, by which its log lines are found; not part of what it is."""
    lease: timedelta | None = None
    """How long a claim that is committed on its own is valid; ``None``: atomic shape."""
    intent: Intent | None = None
    """``None``: another key is another operation, whatever else is equal."""
    route: str | None = field(default=None, compare=False)
    """The pattern of the URL, under which many paths are counted as one endpoint."""
    course: Course = field(default_factory=Course, compare=False, repr=False)
    """What this try takes: the one part that changes, and not part of what it is."""

    @cached_property
    def record_id(self) -> uuid.UUID:
        """The primary key of its record."""
        return record_id_of(self.scope, self.key)

    @cached_property
    def intent_id(self) -> uuid.UUID:
        """What it has in common with the same under another key.

        With the signed fingerprint: the digest alone would let short secrets be guessed.
        """
        scope = self.scope
        signed = self.fingerprint.sign()
        return digest_id("intent", scope.principal, scope.method, scope.path, signed)

    @property
    def remembered_for(self) -> timedelta | None:
        """How long it is known that it was done; ``None``: no longer than its answer."""
        return self.retention + self.tombstone if self.tombstone else None

    @property
    def reference(self) -> str:
        """What people call it by: see `reference_of`."""
        return reference_of(self.record_id)

    @property
    def endpoint(self) -> str:
        """Where it is asked for, by a name that stands in the code: never a path."""
        return endpoint_of(self.scope.method, self.route, self.scope.path)

    @property
    def waited(self) -> float:
        """Seconds until its work began, or, if it hasn't, until now."""
        course = self.course
        until = time.monotonic() if course.started is None else course.started
        return until - course.begun

    @property
    def kept_until(self) -> int:
        """When the retention is over that began with the claim, in seconds since 1970.

        Where the database hasn't said it, by this process's own clock, and from the
        moment at which it was asked for: rather too early than too late.
        """
        if self.course.kept_until is not None:
            return self.course.kept_until
        begun = time.time() - (time.monotonic() - self.course.begun)
        return int(begun + self.retention.total_seconds())

    @property
    def ran(self) -> float | None:
        """Seconds that its work took; ``None``: it was answered without."""
        course = self.course
        if course.started is None:
            return None
        until = time.monotonic() if course.ended is None else course.ended
        return until - course.started

    @property
    def took_over(self) -> bool:
        """Whether it went on with what another one had begun, whose lease was over."""
        return self.course.took_over

    def __str__(self) -> str:
        """What it is, for a line of a log: never the key."""
        where = on_one_line(f"{self.scope.method} {self.scope.path}")
        return f"{where} ({self.reference}, record {self.record_id})"


def endpoint_of(method: str, route: str | None, function: str = "") -> str:
    """Return under which name something is counted.

    `route` is the pattern of the URL, or ``None`` if the request wasn't routed by one;
    `function` the name of a task, which has no route.
    """
    if method == TASK:
        return f"{method} {function}".rstrip()
    return f"{method} (no route)" if route is None else f"{method} /{route}"


ERASED = "(erased)"
"""Stands for what told of a person, and is no scope: that has three parts."""

LONGEST_ON_LINE = 200


def on_one_line(text: str) -> str:
    """Return what anybody has sent as part of a line, in which it can forge nothing."""
    shown = text[:LONGEST_ON_LINE]
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in shown
    )


def reference_of(row_id: uuid.UUID) -> str:
    """Return the beginning of a record's id as people read it out: ``A7C1-11BF``.

    It tells nothing of the key, and the admin finds the record by it.
    """
    text = row_id.hex.upper()
    return f"{text[:4]}-{text[4:8]}"


def record_id_of(scope: Scope, key: str) -> uuid.UUID:
    """Return the primary key of a record, from scope and key alone."""
    return digest_id(scope.principal, scope.method, scope.path, key)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """The first answer as it is stored and sent again."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes | None
    """``None``: the body could not or must not be kept."""
    extras: dict[str, str] = field(default_factory=dict)
    """What else is remembered of it, by name; usually nothing."""
