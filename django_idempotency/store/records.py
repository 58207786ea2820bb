"""All queries about records; each touches one row, found by its id.

The verbs run in whatever transaction is open on the alias; the engine opens them. Times
are compared and written by the database's clock.
"""

from __future__ import annotations

import json
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import DataError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.conf import LONGEST_DURATION
from django_idempotency.core import at_rest
from django_idempotency.core.decisions import RecordState, RowView
from django_idempotency.core.history import Happening, noted, noted_claim
from django_idempotency.core.journal import Journal, Memory
from django_idempotency.core.operations import Operation, StoredAnswer
from django_idempotency.exceptions import ClaimConflict, LeaseLost, Undecodable
from django_idempotency.models import IdempotencyRecord

from .dialects import (
    dialect_of,
)
from .rows import (
    NO_WAIT,
    Claim,
    Parameters,
    at_claim,
    at_row,
    binary,
    claimed_by,
    db_id,
    fetched,
    fits,
    insert_first,
    insert_or_update,
    mark,
    opened,
    read_row,
    require_transaction,
    storable,
    write_claimed,
)
from .statements import (
    RecordStatements,
    record_statements,
)


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim that is committed and valid for a while."""

    record_id: uuid.UUID
    using: str
    """The database that the record is in."""
    length: timedelta
    token: uuid.UUID = field(default_factory=uuid.uuid4)
    """Only the owner with this token can write to the row, whatever the clock says."""

    @property
    def parameters(self) -> Parameters:
        """The parameters of a claim with a lease: the token and the lease's length."""
        token = db_id(self.token, self.using)
        return {"lease_token": token, "lease": self.length.total_seconds()}

    @property
    def ownership(self) -> Parameters:
        """The parameters of each write of the owner: row, token and how long to wait."""
        return {"id": db_id(self.record_id, self.using), **self.parameters}


def record_alias() -> str:
    """Return the database that records are written to *and read from*.

    Never a replica, which might not have the first request's record yet.
    """
    return router.db_for_write(IdempotencyRecord)


def claim(operation: Operation, *, wait: timedelta) -> Claim:
    """Insert the record, waiting for an uncommitted one of the same key.

    Raises:
        ClaimConflict: a committed row is there. Roll back before anything else.
    """
    return _insert(_statements(operation.using).claim, operation, {}, wait)


def claim_leased(operation: Operation, lease: Lease, *, wait: timedelta) -> Claim:
    """Insert the record with a lease; the claim is to be committed at once.

    Raises:
        ClaimConflict: a committed row is there. Roll back before anything else.
    """
    statement = _statements(operation.using).claim_leased
    return _insert(statement, operation, lease.parameters, wait)


def _insert(
    statement: str, operation: Operation, leased: Parameters, wait: timedelta
) -> Claim:
    at_rest.require_codec()
    note = noted_claim(operation.trace)
    parameters = {**_fresh(operation, note), **leased}
    return insert_first(
        statement, parameters, operation.record_id, operation.using, wait
    )


def renew(operation: Operation, location: str | None) -> Claim:
    """Claim the locked row for another attempt."""
    return _renew(_statements(operation.using).renew, operation, {}, location)


def take_over(operation: Operation, lease: Lease, location: str | None) -> Claim:
    """Claim the locked row with a lease; the previous owner's token becomes invalid."""
    statement = _statements(operation.using).take_over
    return _renew(statement, operation, lease.parameters, location)


def _renew(
    statement: str, operation: Operation, leased: Parameters, location: str | None
) -> Claim:
    at_rest.require_codec()
    parameters = {
        "fingerprint": operation.fingerprint.sign(),
        **_times(operation),
        **_history(noted_claim(operation.trace)),
        **leased,
        **at_row(operation.record_id, location, operation.using),
    }
    return claimed_by(statement, parameters, operation.record_id, operation.using)


def delete(operation: Operation, location: str | None) -> None:
    """Delete the locked row, which stands for nothing any more: its key is free.

    Raises:
        ClaimConflict: it is gone.
    """
    using = operation.using
    parameters = at_row(operation.record_id, location, using)
    with connections[using].cursor() as cursor:
        cursor.execute(_statements(using).delete, parameters)
        if cursor.rowcount != 1:
            raise ClaimConflict


def read(record_id: uuid.UUID, *, using: str) -> RowView | None:
    """Return the committed row (or this transaction's own), if there is one."""
    return _view(read_row(_statements(using), record_id, using=using), record_id)


def read_locked(
    record_id: uuid.UUID, location: str | None, *, using: str
) -> RowView | None:
    """Return the row that `lock` has locked at this location, if it is still there."""
    parameters = at_row(record_id, location, using)
    return _view(fetched(_statements(using).read_locked, parameters, using), record_id)


def _view(row: tuple[Any, ...] | None, record_id: uuid.UUID) -> RowView | None:
    if row is None:
        return None
    scope, key, fingerprint, state, status, headers, body, expired, *rest = row
    is_remembered, left, location, kept_until = rest
    answer, why = None, ""
    try:
        if body is not None:
            body = at_rest.read(bytes(body), at_rest.of_answer(record_id))
        answer = _answer(status, headers, body)
    except Undecodable as fault:
        why = str(fault)
    return RowView(
        scope=scope,
        key=key,
        fingerprint=fingerprint,
        state=state,
        expired=bool(expired),
        is_remembered=bool(is_remembered),
        answer=answer,
        why_unreadable=why,
        lease_left=None if left is None else timedelta(seconds=left),
        location=location,
        kept_until=kept_until,
    )


def read_journal(claim: Claim) -> Journal:
    """Return the journal of the claimed row."""
    statement = _statements(claim.using).read_journal
    with connections[claim.using].cursor() as cursor:
        cursor.execute(statement, at_claim(claim))
        effects, earlier_steps = cursor.fetchone()
    return Journal(json.loads(effects), earlier_steps, claim.row_id)


def keep(claim: Claim, answer: StoredAnswer) -> None:
    """Store the answer; it is kept when the transaction commits.

    Raises:
        TransactionLost: the claim's transaction was ended.
    """
    require_transaction(claim)
    statements = record_statements(dialect_of(claim.connection))
    stored = _answer_parameters(answer, claim.row_id, claim.connection)
    parameters = {**stored, **at_claim(claim)}
    if not write_claimed(statements.keep, parameters, claim):
        raise RuntimeError(GONE)


def release(claim: Claim, failure: str | None) -> None:
    """Free the key without an answer, in the transaction that commits the work.

    Without a failure to note, a row with an empty journal is deleted.

    Raises:
        TransactionLost: the claim's transaction was ended.
    """
    require_transaction(claim)
    statements, row = _statements(claim.using), at_claim(claim)
    if failure is None and write_claimed(statements.forget, row, claim):
        return
    noted = {**row, **_noted_end(Happening.RELEASED, failure)}
    if not write_claimed(statements.release, noted, claim):
        raise RuntimeError(GONE)


GONE = (
    "The claimed record is gone: something in the view deleted or changed it, or left "
    "the connection in another schema. Nothing was committed."
)


def begin_call(
    lease: Lease, memory: Memory, state: RecordState, *, was: RecordState
) -> None:
    """Write that a call begins, and renew the lease, unless it is over.

    Raises:
        LeaseLost: the lease is over, whether or not somebody has the row by now.
    """
    statements = _statements(lease.using)
    is_held = state == RecordState.HELD
    statement = statements.begin_held_call if is_held else statements.begin_call
    _execute_owned(statement, _remembered(lease, memory, state, was), lease)


def remember(
    lease: Lease, memory: Memory, state: RecordState, *, was: RecordState
) -> None:
    """Write what has been done, in whatever transaction is open; renew the lease.

    `was` is the state as this owner left it: a row that is held for a write whose
    transaction was ended stays so.

    Raises:
        LeaseLost: another owner has the row, or a person has settled it.
    """
    statements = _statements(lease.using)
    is_held = state == RecordState.HELD
    statement = statements.remember_held if is_held else statements.remember
    _execute_owned(statement, _remembered(lease, memory, state, was), lease)


def _remembered(
    lease: Lease, memory: Memory, state: RecordState, was: RecordState
) -> Parameters:
    return {
        "effects": memory.effects,
        "earlier_steps": memory.earlier_steps,
        "state": state.value,
        "was": was.value,
        "lease": lease.length.total_seconds(),
        **lease.ownership,
    }


def require_fit(memory: Memory, using: str) -> None:
    """Refuse what the database can't take: it would end the connection (MariaDB).

    Raises:
        DataError: the journal is longer than a statement may be.
    """
    steps = memory.effects + (memory.earlier_steps or "")
    if not fits(steps.encode(), connections[using]):  # pragma: no cover - MariaDB
        raise DataError(
            f"The results of this operation's steps are {len(steps)} characters long, "
            f"and the max_allowed_packet of database {using!r} doesn't let them be "
            "stored together. Return what the next steps need, such as an id, or let "
            "the server take more."
        )


def begin_write(lease: Lease, memory: Memory, *, was: RecordState) -> Claim:
    """Write, in the transaction of a step's work, that it has begun: held.

    If the work ends that transaction, this is what stays.

    Raises:
        LeaseLost: another owner has the row, or a person has settled it.
    """
    statement = _statements(lease.using).begin_write
    parameters = _remembered(lease, memory, RecordState.HELD, was)
    try:
        claim = claimed_by(statement, parameters, lease.record_id, lease.using)
    except ClaimConflict:
        raise LeaseLost(LEASE_LOST) from None
    mark(claim)
    return claim


def finish_write(claim: Claim, lease: Lease, memory: Memory) -> None:
    """Write what has been done, in the transaction in which it was begun.

    Raises:
        LeaseLost: a person has settled the row.
        TransactionLost: that transaction was ended.
    """
    require_transaction(claim)
    statement = _statements(lease.using).finish_write
    held = RecordState.HELD
    parameters = _remembered(lease, memory, RecordState.IN_FLIGHT, held)
    if not write_claimed(statement, parameters, claim):
        raise LeaseLost(LEASE_LOST)


def extend(lease: Lease, by: timedelta) -> None:
    """Make the lease last this long from now.

    Raises:
        LeaseLost: another owner has the row, or a person has settled it.
    """
    seconds = min(by, LONGEST_DURATION).total_seconds()
    _execute_owned(_statements(lease.using).extend, {"lease": seconds}, lease)


def keep_leased(lease: Lease, answer: StoredAnswer) -> None:
    """Store the answer and end the lease.

    Raises:
        LeaseLost: another owner has the row, or a person has settled it.
    """
    parameters = _answer_parameters(answer, lease.record_id, connections[lease.using])
    _execute_owned(_statements(lease.using).keep_leased, parameters, lease)


def release_leased(lease: Lease, failure: str | None, *, is_held: bool) -> None:
    """End the lease. Without a failure to note, a row with an empty journal is deleted.

    Raises:
        LeaseLost: another owner has the row, or a person has settled it.
    """
    statements = _statements(lease.using)
    if failure is None:
        with connections[lease.using].cursor() as cursor:
            cursor.execute(statements.forget_leased, lease.ownership)
            if cursor.rowcount == 1:
                return
    what = Happening.HELD if is_held else Happening.RELEASED
    noted_end = _noted_end(what, failure)
    try:
        _execute_owned(statements.release_leased, noted_end, lease)
    except LeaseLost:
        # Unless it is held, also by a write that has ended its transaction.
        _execute_owned(statements.release_held, noted_end, lease)


def _noted_end(what: Happening, failure: str | None) -> Parameters:
    error = (failure or "")[:255]
    return {
        "last_error": error,
        "note": noted(what, **({"error": error} if error else {})),
    }


LEASE_LOST = (
    "The lease was over, and another request has taken the operation over or may do so "
    "at any moment. A lease has to be longer than the longest step, and than what lies "
    "between two steps: lease=timedelta(minutes=1), or call extend() in between."
)


def _execute_owned(statement: str, parameters: Parameters, lease: Lease) -> None:
    with connections[lease.using].cursor() as cursor:
        cursor.execute(statement, {**lease.ownership, **parameters})
        if cursor.rowcount != 1:
            raise LeaseLost(LEASE_LOST)


def note_failure(operation: Operation, error_name: str) -> None:
    """Write a released row, if the row is absent or released.

    In a small transaction of its own that doesn't wait: if a copy is running by now,
    its row is left alone. Nothing is noted where nobody can tell whether one is.
    """
    using = operation.using
    if not dialect_of(connections[using]).notes_failures:  # pragma: no cover - Galera
        return
    statements = _statements(using)
    note = noted(Happening.RELEASED, error=error_name[:255])
    insert_or_update(
        statements.insert_failure,
        statements.note_failure,
        {**_fresh(operation, note), "last_error": error_name[:255]},
        row_id=operation.record_id,
        using=using,
        make_way=statements.delete_failed,
    )


def count_replay(operation: Operation, *, waited: float = 0) -> None:
    """Count one replay and note it, unless another session holds the row just now.

    A power cut may undo it, since the commit doesn't wait for the disk.
    """
    statement = _statements(operation.using).count_replay
    _write_aside(statement, operation, _noted_answer(Happening.REPLAYED, waited))


def add_note(operation: Operation, *, what: Happening, waited: float) -> None:
    """Note what a request of the operation was told that did not run.

    As `count_replay`. Nothing is noted where no row is committed.
    """
    statement = _statements(operation.using).add_note
    _write_aside(statement, operation, _noted_answer(what, waited))


def note_duplicate(operation: Operation, *, first_id: uuid.UUID, waited: float) -> None:
    """Note on the record of the first one what was refused because of it."""
    what = Happening.POSSIBLE_DUPLICATE
    note = noted(what, waited=round(waited, 3), other=operation.reference)
    statement = _statements(operation.using).add_note
    _write_aside(statement, operation, note, first_id)


def hold(operation: Operation, *, waited: float = 0) -> None:
    """Note that a request was told of an unknown outcome, and since when it is.

    As `count_replay`. A record that was committed in the middle of its work is held from
    now on; of one whose call is being made at this moment nothing is written.
    """
    statement = _statements(operation.using).hold
    _write_aside(statement, operation, _noted_answer(Happening.REFUSED, waited))


def _noted_answer(what: Happening, waited: float) -> str:
    return noted(what, waited=round(waited, 3))


def _write_aside(
    statement: str,
    operation: Operation,
    note: str,
    record_id: uuid.UUID | None = None,
) -> None:
    using = operation.using
    connection = connections[using]
    is_alone = connection.get_autocommit()
    with ExitStack() as stack:
        stack.enter_context(opened(connection, NO_WAIT))
        if not is_alone:  # such as in a test case's transaction
            stack.enter_context(transaction.atomic(using=using))
        cursor = stack.enter_context(connection.cursor())
        alone = dialect_of(connection).and_unflushed if is_alone else ""
        row_id = record_id or operation.record_id
        row = {"id": db_id(row_id, using), "note": note}
        cursor.execute(statement + alone, row)


def _statements(using: str) -> RecordStatements:
    return record_statements(dialect_of(connections[using]))


EXTRA = ":"
"""What begins the name of an extra among the headers, and no header's (RFC 9110, 5.1).

Most answers have no extras, so a column of their own would nearly always be empty.
"""


def _answer_parameters(
    answer: StoredAnswer, record_id: uuid.UUID, connection: BaseDatabaseWrapper
) -> Parameters:
    body = answer.body
    if body is not None:
        body = at_rest.stored(body, at_rest.of_answer(record_id))
    # One that can't be stored was over `max_body`, as it were: the work is done.
    body = body if fits(body, connection) else None
    extras = [(f"{EXTRA}{name}", value) for name, value in answer.extras.items()]
    return {
        "response_status": answer.status,
        "response_headers": json.dumps([*answer.headers, *extras]),
        "response_body": binary(body, connection),
    }


def _fresh(operation: Operation, note: str) -> Parameters:
    scope = operation.scope
    return {
        "id": db_id(operation.record_id, operation.using),
        "scope": storable(str(scope)),
        "key": operation.key,
        "method": scope.method,
        "path": storable(scope.path),
        "fingerprint": operation.fingerprint.sign(),
        **_times(operation),
        **_history(note),
    }


def _times(operation: Operation) -> Parameters:
    remembered_for = operation.remembered_for
    return {
        "retention": operation.retention.total_seconds(),
        "remembered": None
        if remembered_for is None
        else remembered_for.total_seconds(),
    }


def _history(note: str) -> Parameters:
    return {"note": note, "history": f"[{note}]"}


def _answer(
    status: int | None, headers: str | None, body: bytes | None
) -> StoredAnswer | None:
    """Return the stored answer; ``None`` if it isn't in the form that we store."""
    pairs: list[tuple[str, str]] = []
    extras = {}
    try:
        for name, value in json.loads(headers or ""):
            if str(name).startswith(EXTRA):
                extras[name.removeprefix(EXTRA)] = str(value)
            else:
                pairs.append((str(name), str(value)))
    except (TypeError, ValueError):
        return None
    if not all(_can_be_sent(name, value) for name, value in pairs):
        return None
    if status is None or not 100 <= status <= 599:
        return None
    return StoredAnswer(
        status=status,
        headers=tuple(pairs),
        body=body,
        extras=extras,
    )


def _can_be_sent(name: str, value: str) -> bool:
    header = name + value
    is_text = not any("\ud800" <= each <= "\udfff" for each in value)
    is_named = name.isascii() and name != ""
    return is_text and is_named and "\r" not in header and "\n" not in header
