"""The search for the next due event of the inbox.

Note [What waits behind an earlier event]
In an ordered inbox only the first unfinished event of an object may run. The others are
stored as due, like any event, since the one that stores them can't know whether the
earlier one is being finished at this moment. A worker that meets one of them postpones
all that are due of that object, until the first one will have been tried again; from then
on no search meets them. Whoever finishes the first one makes the next one due, in the
same transaction. Between the two a row's lock decides: the postponing worker locks the
rows, and only then asks which is the first.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from random import sample
from typing import Any

from django.db import connections

from django_idempotency.core.attempts import BEGUN, Way, noted_attempt

from .dialects import dialect_of
from .rows import Parameters, fetched
from .statements import SearchStatements, search_statements

BATCH = 500
"""How many events one transaction postpones; SQLite takes a thousand parameters."""
PAGE = 20
"""How many are found at a time where each has to be locked by itself."""
LONGER = timedelta(minutes=1)
"""How long after the first one's next attempt those behind it are looked at again."""
LONGEST = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Look:
    """What one look for work has come to."""

    begun: uuid.UUID | None = None
    """The event whose attempt has begun."""
    has_postponed: bool = False
    """Whether there was only something to postpone: look again."""


def look(*, using: str, free_after: timedelta, endpoints: Collection[str] = ()) -> Look:
    """Count an attempt at the next due event, of these endpoints or of any.

    To be committed before the handler runs: an event that kills its worker must not
    start from zero each time. Until `free_after` no other worker takes it.
    """
    statements = _statements(using)
    row = _next_due(statements, endpoints, using)
    if row is None:
        return Look()
    row_id, endpoint, object_key, is_ordered = row
    if is_ordered and _postponed_behind_first(row_id, endpoint, object_key, using):
        return Look(has_postponed=True)
    _execute(
        statements.begin,
        {
            "after": free_after.total_seconds(),
            "note": noted_attempt(BEGUN, Way.INBOX),
            "id": row_id,
        },
        using,
    )
    return Look(begun=row_id if isinstance(row_id, uuid.UUID) else uuid.UUID(row_id))


def wake_next(endpoint: str, object_key: str, *, using: str) -> None:
    """Make the first unfinished event of an object due, now that one before it is done.

    Nothing is done if it was begun before: then it has a time of its own.
    """
    of_object = {"endpoint": endpoint, "object_key": object_key}
    statements = _statements(using)
    if first := fetched(statements.first_of_object, of_object, using):
        _execute(statements.wake, {"id": first[0]}, using)


def _next_due(
    statements: SearchStatements, endpoints: Collection[str], using: str
) -> tuple[Any, ...] | None:
    if not endpoints:
        return next(_locked(statements.due, {}, 1, using), None)
    # In random order, so that none of them has to wait for all the work of another.
    for endpoint in sample(list(endpoints), len(endpoints)):
        of_endpoint = {"endpoint": endpoint}
        if row := next(_locked(statements.due_at, of_endpoint, 1, using), None):
            return row
    return None


def _locked(
    statement: str, parameters: Parameters, most: int, using: str
) -> Iterator[tuple[Any, ...]]:
    """Search for rows and lock them; those that others have locked are passed over.

    Of a distributed table each by itself, when it is asked for.
    """
    connection = connections[using]
    at_once = dialect_of(connection).locks_what_it_finds
    size, offset = most if at_once else PAGE, 0
    with connection.cursor() as cursor:
        while True:
            page = {**parameters, "size": size, "offset": offset}
            cursor.execute(statement, page)
            found = cursor.fetchall()
            if at_once:
                yield from found
                return
            lock = _statements(using).lock_due
            yield from (row for row in found if fetched(lock, {"id": row[0]}, using))
            if len(found) < size:
                return
            offset += size


def _postponed_behind_first(
    row_id: object, endpoint: str, object_key: str, using: str
) -> bool:
    """Postpone what is due behind the first one: see the Note above.

    Returns whether the row is behind it.
    """
    statements = _statements(using)
    of_object: Parameters = {"endpoint": endpoint, "object_key": object_key}
    first = fetched(statements.first_of_object, of_object, using)
    if first is None or first[0] == row_id:
        return False
    others = islice(_locked(statements.due_of_object, of_object, BATCH, using), BATCH)
    locked = {row_id, *(each for (each,) in others)}
    first = fetched(statements.first_of_object, of_object, using)
    first_id, seconds_left = first or (row_id, 0)
    wait = min(max(0.0, float(seconds_left)), LONGEST.total_seconds())
    behind = {f"id_{n}": each for n, each in enumerate(locked - {first_id})}
    if behind:
        ids = ", ".join(f"%({name})s" for name in behind)
        after = {"after": wait + LONGER.total_seconds()}
        _execute(f"{statements.postpone} ({ids})", {**after, **behind}, using)
    return True


def _statements(using: str) -> SearchStatements:
    return search_statements(dialect_of(connections[using]))


def _execute(statement: str, parameters: Parameters, using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, parameters)
