"""Rows of another package's table, during the move away from it.

Claimed like ours, by an insert that the database can refuse, and in the transaction of
our own claim: whoever else inserts the same key waits until it is committed.
"""

from __future__ import annotations

from typing import Any

from django.db import Error, IntegrityError, connections, transaction
from django.db.models import Model

from .dialects import trouble_of
from .dialects.base import Trouble

Identity = dict[str, Any]
"""The columns under the old table's unique constraint."""


def insert_or_lock(
    model: type[Model], identity: Identity, values: dict[str, Any], using: str
) -> tuple[bool, Any]:
    """Insert the row; return whether it was, else also the row in the way, locked.

    That row is ``None`` if it was deleted meanwhile.

    Raises:
        IntegrityError: the row breaks another constraint than a unique one.
    """
    rows = model._base_manager.using(using)
    try:
        with transaction.atomic(using=using):
            rows.create(**identity, **values)
    except IntegrityError as error:
        if not is_taken(error, using):
            raise
        return False, rows.select_for_update().filter(**identity).first()
    return True, None


def write(
    model: type[Model], identity: Identity, values: dict[str, Any], using: str
) -> None:
    model._base_manager.using(using).filter(**identity).update(**values)


def delete(model: type[Model], identity: Identity, using: str) -> None:
    model._base_manager.using(using).filter(**identity).delete()


def is_taken(error: Error, using: str) -> bool:
    """Whether there is a row with the same key."""
    return trouble_of(connections[using], error) is Trouble.TAKEN


def is_missing(error: Error, using: str) -> bool:
    """Whether the table or one of its columns isn't there."""
    return trouble_of(connections[using], error) is Trouble.NOT_MIGRATED
