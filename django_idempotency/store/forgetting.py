"""What people let be forgotten: an answer, a person; and the release of a stuck key.

Note [What is forgotten and what isn't]
That an operation is done is never forgotten before its retention is over: a repeat would
do it a second time. So its row stays, without what was answered and by what it was found,
and a repeat is told that it was carried out. Nor is an operation touched that isn't at
its end, since a retry goes on by what its steps have left. Only a row that stands for
nothing, because all of it was rolled back, is deleted.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db import connections, transaction
from django.dispatch import Signal
from django.utils.translation import gettext

from django_idempotency import signals
from django_idempotency.core.decisions import RecordState
from django_idempotency.core.history import Happening, bare, with_note
from django_idempotency.core.journal import Journal
from django_idempotency.core.links import LinkKind
from django_idempotency.core.operations import ERASED, TASKS, on_one_line
from django_idempotency.core.seen import changed_since, described
from django_idempotency.exceptions import ClaimOutrun, ClaimTimedOut, StoreBusy
from django_idempotency.models import (
    DONE_WITHOUT_ANSWER,
    IdempotencyRecord,
    RecordQuerySet,
)

from . import links
from .events import A_MOMENT
from .records import record_alias
from .rows import claim_errors, locking, opened

logger = logging.getLogger("django_idempotency")

DONE = frozenset({RecordState.KEPT, RecordState.EXPIRED})
"""What a repeat doesn't do again."""

AT_ONCE = 1000
"""Rows of one look for those of a person."""

WITHOUT_BODY = ("response_body", "response_headers")
"""What nothing here needs of a row: it can have megabytes."""


def forget_answer(record: IdempotencyRecord, *, by: str, reason: str) -> None:
    """Forget what was answered; a repeat gets 409 ``answer-unavailable``.

    The body, the headers, the results of its steps, the details of its history and what
    it is about are gone. Scope, key and fingerprint stay until its retention is over.

    Raises:
        ValueError: there is no reason, or no answer, or the record has changed since
            this instance was read.
    """
    _require_reason(reason)
    with _locked_as_seen(record) as row:
        if why := why_not_forgotten(row):
            raise ValueError(why)
        if row.state != RecordState.KEPT:
            raise ValueError(
                gettext("There is no answer: nothing was done, and the key is free.")
            )
        _update(row, **_without_answer(row, Happening.FORGOTTEN, by, reason))
    _tell(record, "forgotten", signals.forgotten, by=by, reason=reason)


def release_stuck(record: IdempotencyRecord, *, by: str, reason: str) -> None:
    """Release a key whose work has ended without an end, once nothing has happened.

    For a record that is in flight, though its lease is over or it never had one. Whoever
    calls this has found out that nothing of the work has happened: a retry does all of
    it. If something has, or that isn't known, settle it instead.

    Raises:
        ValueError: there is no reason; or the record is in another state, or still runs,
            or a step of it is done; or it has changed since this instance was read.
    """
    _require_reason(reason)
    with _locked_as_seen(record) as row:
        if row.state == RecordState.HELD:
            raise ValueError(
                gettext(
                    "The operation is held: settle it, which says what happened to its "
                    "call."
                )
            )
        if row.state != RecordState.IN_FLIGHT:
            told = gettext("It is %(state)s: its key isn't stuck.")
            raise ValueError(told % {"state": row.get_state_display()})
        running = _rows(row).in_flight().select_for_update()
        if running.values_list("pk").first():
            raise ValueError(
                gettext("The operation is still running: its lease isn't over.")
            )
        journal = Journal(row.effects, row.earlier_steps, row.pk)
        if done := [each.name for each in journal.entries if each.is_done]:
            told = gettext(
                "Something has happened, and is done: %(steps)s. Let the client send it "
                "again, which goes on after that."
            )
            raise ValueError(told % {"steps": ", ".join(map(repr, done))})
        _update(
            row,
            state=RecordState.RELEASED,
            effects={},
            earlier_steps=None,
            lease_token=None,
            lease_expires_at=None,
            held_since=None,
            history=_noted(row.history, Happening.FREED, by, reason),
        )
    _tell(record, "freed", signals.freed, by=by, reason=reason)


@dataclass(frozen=True, slots=True)
class Erasure:
    """What became of each record that was found."""

    done: list[uuid.UUID] = field(default_factory=list)
    left: list[tuple[IdempotencyRecord, str]] = field(default_factory=list)
    """And why it was left as it is."""


def forget_all(
    records: Iterable[IdempotencyRecord], *, by: str, reason: str
) -> Erasure:
    """Forget the answers of these records, where there are such.

    Raises:
        ValueError: there is no reason.
    """
    _require_reason(reason)

    def forget(record: IdempotencyRecord) -> None:
        if record.state in DONE:
            forget_answer(record, by=by, reason=reason)
        else:
            _delete(record)

    return _each(records, forget)


def erase(principal: str, *, by: str, reason: str) -> Erasure:
    """Erase what is stored of a person: nothing is left that tells of them.

    The ids of the rows stay, each a digest, so that a repeat is still recognised until
    the retention is over, and gets 409 ``answer-unavailable``. It reads the whole table
    once, since nothing else needs to find a person's records.

    Raises:
        ValueError: there is no reason, or all guests share the principal, or all tasks.
    """
    _require_reason(reason)

    def erase_one(record: IdempotencyRecord) -> None:
        if record.state not in DONE:
            _delete(record)
            return
        with _locked_as_seen(record) as row:
            if why := why_not_forgotten(row, is_erased=True):
                raise ValueError(why)
            texts = dict.fromkeys(("scope", "key", "path", "fingerprint"), ERASED)
            columns = _without_answer(row, Happening.ERASED, by, reason)
            _update(row, **columns, **texts)

    erasure = _each(records_of(principal), erase_one)
    if erasure.done:
        told = partial(_tell_erased, erasure.done, by=by, reason=reason)
        transaction.on_commit(told, using=record_alias(), robust=True)
    return erasure


def records_of(principal: str) -> Iterator[IdempotencyRecord]:
    """Find the records of a principal, by reading the whole table.

    Raises:
        ValueError: all guests share the principal, or all tasks.
    """
    if principal == TASKS:
        raise ValueError(
            gettext("All tasks share this principal. Name the key of one.")
        )
    if principal.endswith("anonymous"):
        raise ValueError(
            gettext(
                "All guests share this principal. Name the key of the guest's request."
            )
        )
    last = uuid.UUID(int=0)
    rows = _all().filter(scope__startswith=f"{principal}|").order_by("pk")
    while found := list(rows.filter(pk__gt=last)[:AT_ONCE]):
        last = found[-1].pk
        # Another principal may begin with this one and go on with "|", and SQLite
        # compares letters without their case.
        yield from (
            each
            for each in found
            if each.scope == f"{principal}|{each.method}|{each.path}"
        )


def records_with_key(key: str) -> list[IdempotencyRecord]:
    """Find the records with this key: of several callers, or at several addresses."""
    return list(_all().filter(key=key))


def records_about(subject: str) -> list[IdempotencyRecord]:
    """Find the records that are about an object, as ``shop.order:7``, or a name."""
    label, colon, pk = subject.partition(":")
    values = {subject, f"{label.lower()}{colon}{pk}"}
    ids = {
        row_id
        for value in values
        for row_id in links.rows_with(
            value, using=record_alias(), kind=LinkKind.OBJECT, most=AT_ONCE
        )
    }
    return list(_all().filter(pk__in=ids))


def why_not_forgotten(row: IdempotencyRecord, *, is_erased: bool = False) -> str:
    """Return why a record must stay as it is; empty if it may be forgotten."""
    if row.scope == ERASED:
        return gettext("It is erased already.")
    if row.state == RecordState.RELEASED:
        return (
            gettext(
                "It has stopped between two steps, and a retry goes on after the last "
                "one."
            )
            if row.steps
            else ""
        )
    if row.state == RecordState.EXPIRED:
        if is_erased:
            return ""
        return gettext("Its retention is over, and its answer is gone.")
    if row.state != RecordState.KEPT:
        told = gettext(
            "It is %(state)s: it has no end yet. Wait for that, or settle it."
        )
        return told % {"state": row.get_state_display()}
    # Unless what is left tells of the person.
    if row.response_status == 0 and not is_erased and not row.effects:
        return gettext("Its answer is forgotten already.")
    return ""


def _each(
    records: Iterable[IdempotencyRecord], act: Callable[[IdempotencyRecord], None]
) -> Erasure:
    erasure = Erasure()
    for record in records:
        try:
            if record.state not in DONE and (why := why_not_forgotten(record)):
                raise ValueError(why)
            act(record)
        except ValueError as error:
            erasure.left.append((record, str(error)))
        else:
            erasure.done.append(record.pk)
    return erasure


def _delete(record: IdempotencyRecord) -> None:
    """Delete a row that stands for nothing."""
    with _locked_as_seen(record) as row:
        links.remove(row.pk, using=record_alias())
        _rows(row).delete()


def _without_answer(
    row: IdempotencyRecord, what: Happening, by: str, reason: str
) -> dict[str, Any]:
    return {
        **DONE_WITHOUT_ANSWER,
        "response_body": None,
        "effects": {},
        "earlier_steps": None,
        "history": _noted(bare(row.history), what, by, reason),
    }


def _noted(history: object, what: Happening, by: str, reason: str) -> list[object]:
    return with_note(history, {"what": what, "by": by, "reason": reason})


def _update(row: IdempotencyRecord, **columns: Any) -> None:
    if "response_status" in columns:
        links.remove(row.pk, using=record_alias())
    _rows(row).update(**columns)


@contextmanager
def _locked_as_seen(seen: IdempotencyRecord) -> Iterator[IdempotencyRecord]:
    """Lock the row in a transaction, if it still is as it was seen.

    Raises:
        ValueError: it isn't, or somebody has locked it.
    """
    using = record_alias()
    try:
        with (
            claim_errors(using),
            opened(connections[using], A_MOMENT),
            transaction.atomic(using=using),
            locking(using, A_MOMENT),
        ):
            row = _rows(seen).select_for_update().defer(*WITHOUT_BODY).first()
            if row is None:
                raise ValueError(gettext("The record is gone."))
            if (row.seen, row.created_at) != (seen.seen, seen.created_at):
                raise ValueError(
                    changed_since(
                        described(seen.get_state_display(), seen.attempts),
                        described(row.get_state_display(), row.attempts),
                        row.last_act,
                    )
                )
            yield row
    except (ClaimOutrun, ClaimTimedOut, StoreBusy):
        raise ValueError(
            gettext(
                "Somebody is running the operation at this moment. Nothing was done."
            )
        ) from None


def _rows(record: IdempotencyRecord) -> RecordQuerySet:
    # Not by a manager: a project's own could join tables in.
    return RecordQuerySet(IdempotencyRecord, using=record_alias()).filter(pk=record.pk)


def _all() -> RecordQuerySet:
    return RecordQuerySet(IdempotencyRecord, using=record_alias()).defer(*WITHOUT_BODY)


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise ValueError(gettext("Give a reason; it is recorded."))


def _tell(
    record: IdempotencyRecord, action: str, signal: Signal, *, by: str, reason: str
) -> None:
    """Show in the instance how the row is now, and tell of it once that is committed."""
    record.refresh_from_db(using=record_alias())

    def tell() -> None:
        logger.warning(
            "idempotency %s: %s %s (%s, record %s) by %s",
            action,
            record.method,
            on_one_line(record.path),
            record.reference,
            record.pk,
            on_one_line(by) or "somebody",
            extra={
                "action": action,
                "record_id": str(record.pk),
                "reference": record.reference,
            },
        )
        signal.send_robust(
            sender=IdempotencyRecord, record=record, by=by, reason=reason
        )

    transaction.on_commit(tell, using=record_alias(), robust=True)


def _tell_erased(record_ids: list[uuid.UUID], *, by: str, reason: str) -> None:
    # Not whose they were, or the log would be the place where that is left.
    logger.warning(
        "idempotency erased: %s records of a person by %s",
        len(record_ids),
        on_one_line(by) or "somebody",
        extra={"action": "erased", "records": len(record_ids)},
    )
    signals.erased.send_robust(
        sender=IdempotencyRecord, record_ids=record_ids, by=by, reason=reason
    )
