"""What the other side tells of a call whose outcome is unknown here.

Note [The word of the other side]
A provider's event can say which call has caused it, by the derived key or by a reference
that the call has handed over. That settles a call as a person would, and it can't be
wrong about whether the call was made. The owner of a live lease is left alone: it is
about to write what the call has returned. So the word is stored in the transaction of the
event, and looked for where it can matter: by whoever takes the operation over, and where
a request would be told that the outcome is unknown. If nobody owns the row, it is settled
at once.
"""

from __future__ import annotations

import json
import logging
import uuid
from datetime import timedelta
from typing import Any

from django.db import transaction

from django_idempotency.conf import conf
from django_idempotency.core.events import EventFacts
from django_idempotency.core.history import OTHER_SIDE
from django_idempotency.core.journal import Journal, as_json
from django_idempotency.core.links import Link, LinkKind
from django_idempotency.core.operations import on_one_line, reference_of
from django_idempotency.exceptions import Undecodable
from django_idempotency.fields import UtcNow
from django_idempotency.models import IdempotencyRecord, OperationLink, RecordQuerySet
from django_idempotency.store import links
from django_idempotency.store.records import record_alias

logger = logging.getLogger("django_idempotency")


CLOCKS_DIFFER_BY = timedelta(minutes=5)
"""How much earlier than the operation an event of its call may say that it happened."""


def operations_of_call(event: EventFacts, step: str | None) -> list[uuid.UUID]:
    """Return the ids of the rows whose call it was, by its key or else its reference."""
    using = record_alias()
    named = ((LinkKind.CALL, event.call_key), (LinkKind.REFERENCE, event.reference))
    for kind, value in named:
        if value and (
            found := links.rows_with(value, using=using, kind=kind, label=step)
        ):
            return [each for each in found if not _is_older(event, each, using)]
    return []


def _is_older(event: EventFacts, row_id: uuid.UUID, using: str) -> bool:
    """Whether it is about an earlier life of the key, which has derived the same keys."""
    if event.occurred_at is None:
        return False
    rows = RecordQuerySet(IdempotencyRecord, using=using).filter(pk=row_id)
    return rows.filter(created_at__gt=event.occurred_at + CLOCKS_DIFFER_BY).exists()


def record_of_call(event: EventFacts) -> IdempotencyRecord | None:
    """Return the one operation whose call it was."""
    found = operations_of_call(event, None)
    records = RecordQuerySet(IdempotencyRecord, using=record_alias())
    return records.filter(pk__in=found).first() if len(set(found)) == 1 else None


def tell(row_id: uuid.UUID, step: str, result: Any, *, event: str) -> None:
    """Store that an event says what the call has returned; settle if nobody owns it.

    To be called in the event's transaction.

    Raises:
        TypeError: the result can't be stored as JSON.
    """
    using = record_alias()
    text = json.dumps(as_json(result, step))
    word = Link(kind=LinkKind.WORD, value=event, label=step, result=text)
    with transaction.atomic(using=using):
        links.add([word], row_id, retention=conf.IDEMPOTENCY_RETENTION, using=using)
        _settle(row_id, using)


def settle(row_id: uuid.UUID, *, using: str) -> bool:
    """Settle a row that nobody owns, if there is a word; return whether there was."""
    with transaction.atomic(using=using):
        return _settle(row_id, using)


def finish(journal: Journal, row_id: uuid.UUID, *, using: str) -> None:
    """Finish the unfinished call of a journal that was taken over, if there is a word.

    Raises:
        Undecodable: what the word says can't be read.
    """
    step = journal.unfinished
    if step is None or step.kind != "call":
        return
    if words := _words_on(step.name, row_id, using):
        journal.finish_unfinished(links.result_of(words[0]))


def _words_on(step: str, row_id: uuid.UUID, using: str) -> list[OperationLink]:
    label = links.label_of(step)
    return [each for each in links.words_on(row_id, using=using) if each.label == label]


def _settle(row_id: uuid.UUID, using: str) -> bool:
    rows = RecordQuerySet(IdempotencyRecord, using=using).filter(pk=row_id)
    free = rows.exclude(lease_expires_at__gt=UtcNow()).exclude(
        state__in=("kept", "expired")
    )
    # Who has locked it owns it, or will look for the word. To wait could be a deadlock:
    # a step may want what the event's handler has written.
    journal, rest = free.locked_journal(skip_locked=True)
    if journal is None:
        return False
    step = journal.unfinished
    words = [] if step is None else _words_on(step.name, row_id, using)
    if step is None or step.kind != "call" or not words:
        _warn_of_contradiction(row_id, journal, using)
        return False
    word = words[0]
    try:
        result = links.result_of(word)
    except Undecodable as fault:
        logger.error(
            "idempotency undecodable: what an event says of a call can't be read, so the "
            "operation stays held. %s (%s, record %s)",
            fault,
            reference_of(row_id),
            row_id,
            extra={"action": "undecodable", "record_id": str(row_id)},
        )
        return False
    by, reason = OTHER_SIDE, f"its event {word.value}"
    free.write_settlement(
        journal,
        rest,
        applied=True,
        result=result,
        by=by,
        reason=reason,
    )
    record = rows.get()
    transaction.on_commit(
        lambda: record.tell_settled(by=by, reason=reason, applied=True),
        using=using,
        robust=True,
    )
    return True


def _warn_of_contradiction(row_id: uuid.UUID, journal: Journal, using: str) -> None:
    """A person said that the call was not made, and the other side that it was."""
    if all(each.get("applied") for each in journal.settlements):
        return
    made = {entry.name for entry in journal.entries}
    words = [
        each for each in links.words_on(row_id, using=using) if each.label not in made
    ]
    if words:
        logger.error(
            "idempotency contradicted: the other side says that the call %r was made, "
            "and a person that it was not; a retry makes it, perhaps a second time "
            "(%s, record %s, event %s)",
            words[0].label,
            reference_of(row_id),
            row_id,
            on_one_line(words[0].value),
            extra={"action": "contradicted", "record_id": str(row_id)},
        )
