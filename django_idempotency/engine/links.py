"""What the work lets its operation be found by, written in its own transactions."""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.db.models import Model

from django_idempotency.core.links import Link, LinkKind
from django_idempotency.store import links


class Links:
    """Links that wait for the next write of their operation.

    Nothing is written for an operation that has none, which is nearly every one.
    """

    def __init__(
        self, row_id: uuid.UUID | None, *, retention: timedelta, using: str
    ) -> None:
        self.row_id = row_id
        self._retention = retention
        self._using = using
        self._waiting: dict[tuple[LinkKind, str], Link] = {}
        self._stored: dict[tuple[LinkKind, str], Link] = {}

    def add(self, link: Link) -> None:
        """Let the operation be found by this from its next write on."""
        name = link.kind, link.value
        if self.row_id is not None and self._stored.get(name) != link:
            self._waiting[name] = link

    def store(self) -> None:
        """Write what waits, in the open transaction; again if that is rolled back."""
        if self._waiting and self.row_id is not None:
            links.add(
                self._waiting.values(),
                self.row_id,
                retention=self._retention,
                using=self._using,
            )

    def are_stored(self) -> None:
        """That was committed."""
        self._stored |= self._waiting
        self._waiting = {}


def link_to(subject: Model | str, amount: str, label: str) -> Link:
    """Return the link to an object, or to something that is only a name.

    Raises:
        ValueError: the object isn't saved, or the name is empty.
    """
    if isinstance(subject, Model):
        if subject.pk is None:
            raise ValueError("Save the object first: it has no primary key yet.")
        value = f"{subject._meta.label_lower}:{subject.pk}"
        label = label or str(subject)
    else:
        value = str(subject)
    if not value.strip():
        raise ValueError("Give an object, or a name that isn't empty.")
    return Link(kind=LinkKind.OBJECT, value=value, label=label, amount=str(amount))
