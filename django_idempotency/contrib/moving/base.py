"""What the stores of old packages have in common."""

from __future__ import annotations

import hashlib
import json
import uuid
from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Any, ClassVar

from django.apps.registry import Apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import Error
from django.db.models import Model

from django_idempotency.core.decisions import Held, InFlight, Verdict
from django_idempotency.core.operations import StoredAnswer
from django_idempotency.http.moving import Asked
from django_idempotency.store import old_rows

REGISTRY = Apps()
"""Holds the models of foreign tables, so that Django neither migrates nor finds them."""

UNREADABLE = StoredAnswer(
    status=409,
    headers=(("Content-Type", "application/json"),),
    body=json.dumps(
        {
            "detail": "The request was carried out, but its answer can't be shown "
            "again. Look the outcome up another way. Don't send it under a new key."
        }
    ).encode(),
)
"""Stands in an old store for an answer that it can't hold."""


class TableStore(ABC):
    """An old package's table, in the database of the records.

    It needs neither the old package nor its place in INSTALLED_APPS: only the table.
    """

    LONGEST_KEY: ClassVar[int] = 255
    LONGEST_PATH: ClassVar[int] = 255

    def __init__(self, *, take_over: bool = False) -> None:
        """Say what becomes of a claim whose time is over and that has no answer.

        Whoever made it may have stopped before or after its work, or may still be at
        it. By default nobody runs it again: repeats get 409 ``outcome-unknown`` until
        somebody deletes its row. With ``take_over=True`` it is run, as the old package
        would.
        """
        self.take_over = take_over

    @property
    @abstractmethod
    def model(self) -> type[Model]:
        """The table, as far as it is used."""

    @abstractmethod
    def identity(self, asked: Asked) -> old_rows.Identity | None:
        """Return the row's unique columns; ``None``: the old package has no such keys."""

    @abstractmethod
    def claimed(self, asked: Asked) -> dict[str, Any]:
        """Return the other columns of a claim."""

    @abstractmethod
    def answered(self, asked: Asked, answer: StoredAnswer) -> dict[str, Any]:
        """Return what is written into the row for an answer."""

    @abstractmethod
    def verdict_of(self, row: Any, asked: Asked) -> Verdict | None:
        """Return what follows from the row; ``None``: it is free."""

    def claim(self, asked: Asked) -> Verdict | None:
        if (identity := self.identity(asked)) is None:
            return None
        values = self.claimed(asked)
        try:
            is_new, row = old_rows.insert_or_lock(
                self.model, identity, values, asked.using
            )
        except Error as error:
            if not old_rows.is_missing(error, asked.using):
                raise
            raise self._not_here(asked) from error
        if is_new:
            return None
        if row is None:
            return InFlight()
        verdict = self.verdict_of(row, asked)
        if verdict is None:
            old_rows.write(self.model, identity, values, asked.using)
        return verdict

    def keep(self, asked: Asked, answer: StoredAnswer) -> None:
        if (identity := self.identity(asked)) is not None:
            values = self.answered(asked, answer)
            old_rows.write(self.model, identity, values, asked.using)

    def release(self, asked: Asked) -> None:
        if (identity := self.identity(asked)) is not None:
            old_rows.delete(self.model, identity, asked.using)

    def abandoned(self) -> Verdict | None:
        """What follows from a claim whose time is over, and that has no answer."""
        return None if self.take_over else Held()

    def _not_here(self, asked: Asked) -> ImproperlyConfigured:
        table = self.model._meta.db_table
        return ImproperlyConfigured(
            f"{type(self).__name__} needs the table {table!r} in database "
            f"{asked.using!r}, where the records are: only there are both claims one "
            "transaction. Nothing was done. If it was dropped, the move is over; delete "
            "the line\n\n    IDEMPOTENCY_MOVING_FROM = …"
        )


def digest_of(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def uuid_of(key: str) -> uuid.UUID | None:
    """Return the key as the old packages read it; ``None``: they refuse it."""
    try:
        return uuid.UUID(key)
    except ValueError:
        return None


def text_of(answer: StoredAnswer) -> tuple[StoredAnswer, str]:
    """Return an answer for a column of text, and its text."""
    try:
        if answer.body is not None:
            text = answer.body.decode()
            if "\0" not in text:
                return answer, text
    except UnicodeDecodeError:
        pass
    return UNREADABLE, (UNREADABLE.body or b"").decode()


def headers_of(answer: StoredAnswer, *without: str) -> dict[str, str]:
    return {
        name: value for name, value in answer.headers if name.lower() not in without
    }


def type_of(answer: StoredAnswer) -> str:
    return dict(answer.headers).get("Content-Type", "")


def setting(name: str, unit: str) -> timedelta | None:
    """Return a duration that the old package's own setting names, if it is there."""
    number = getattr(settings, name, None)
    return None if number is None else timedelta(**{unit: float(number)})
