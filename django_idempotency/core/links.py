"""What an operation can be found by, beside its own key."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import StrEnum

from .keys import digest_id


class LinkKind(StrEnum):
    """What a link's value is."""

    OBJECT = "object"
    """A model and a primary key, or any name: what the operation is about."""
    CALL = "call"
    """The derived key that a step has handed to another party."""
    REFERENCE = "reference"
    """What the other side calls it, such as the id of a charge."""
    WORD = "word"
    """The event by which the other side has told what became of a call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One thing that an operation is found by."""

    kind: LinkKind
    value: str
    label: str = ""
    """The same for people; for the key of a call, the step's name."""
    amount: str = ""
    """Such as ``46.82 EUR``."""
    result: str = ""
    """Of a word: what the call has returned, as JSON."""

    def id_for(self, row_id: uuid.UUID) -> uuid.UUID:
        """The primary key of the link of this row."""
        return digest_id(row_id.hex, self.kind, self.value)
