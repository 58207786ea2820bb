"""The values that one protected request is made of."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from .fingerprints import Fingerprint, digest_of
from .keys import uuid8

__all__ = ["TASK", "Operation", "Scope", "StoredAnswer", "record_id_of"]


TASK = "TASK"
"""The method in the scope of work that no request asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose key, and where: two equal keys meet only in equal scopes."""

    principal: str
    method: str
    path: str
    """Decoded, as the client repeats it; names of URL patterns may be refactored."""

    def __str__(self) -> str:
        return f"{self.principal}|{self.method}|{self.path}"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One attempt of a client to have something done."""

    scope: Scope
    key: str
    fingerprint: Fingerprint
    wait: timedelta
    """How long this request may wait in all; zero means not to wait."""
    retention: timedelta
    lease: timedelta | None = None
    """How long a claim that is committed on its own lives; ``None``: atomic shape."""

    @cached_property
    def record_id(self) -> uuid.UUID:
        """The primary key of its record."""
        return record_id_of(self.scope, self.key)


def record_id_of(scope: Scope, key: str) -> uuid.UUID:
    """Return the primary key of a record, from scope and key alone."""
    return _digest_id(scope.principal, scope.method, scope.path, key)


def _digest_id(*parts: str) -> uuid.UUID:
    return uuid8(digest_of(part.encode("utf-8", "surrogatepass") for part in parts))


@dataclass(frozen=True, kw_only=True)
class EventIdentity:
    """What makes two deliveries the same event.

    The endpoint is part of it because some providers send one id to several
    subscriptions, the account because ids are unique per account and mode.
    """

    endpoint: str
    source: str
    account: str
    event_id: str
    """The provider's, or what the endpoint's own identity function returned."""

    @cached_property
    def row_id(self) -> uuid.UUID:
        """The primary key of its row."""
        return _digest_id(self.endpoint, self.source, self.account, self.event_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """The first answer as it is stored and sent again."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes | None
    """``None``: it could not or must not be kept."""
