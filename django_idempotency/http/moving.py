"""A store that another package has filled, and perhaps still fills, beside ours.

Note [Two stores at once]
While a project moves over, processes with the old package and processes with this one
run side by side. Whoever holds our claim claims in the old store as well, before the
view runs, and writes the answer there before COMMIT. If the old store is a table in the
database of the records, both claims are one transaction: an old process that inserts
the same key waits for it, and then finds the answer or nothing at all. Our record is
asked first; the old store only by somebody who would otherwise run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

from django.core.exceptions import ImproperlyConfigured, RequestDataTooBig
from django.db import connections
from django.http import HttpRequest
from django.utils.module_loading import import_string

from django_idempotency.conf import conf
from django_idempotency.core.decisions import InFlight, Replay, Verdict
from django_idempotency.core.operations import Operation, StoredAnswer
from django_idempotency.engine.steps import Steps
from django_idempotency.engine.work import Outcome, Work
from django_idempotency.exceptions import (
    AnsweredElsewhere,
    ClaimOutrun,
    ClaimTimedOut,
)
from django_idempotency.store import rows

from .answers import without_denied
from .bodies import hold_body
from .requests import header_in_meta


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request with a key, as an old store is asked about it."""

    request: HttpRequest
    """Django's own, with its user, whatever framework the view belongs to."""
    key: str
    """As it stands in the header, quotes included."""
    body: bytes
    retention: timedelta
    """How long an answer is kept that is written there."""
    using: str
    """The database of the records, in whose transaction this happens."""


class OldStore(Protocol):
    """What was used before, asked within our claim and its transaction."""

    def claim(self, asked: Asked) -> Verdict | None:
        """Claim the key there, or return what is found; ``None``: the view may run."""

    def keep(self, asked: Asked, answer: StoredAnswer) -> None:
        """Write the answer there, before COMMIT."""

    def release(self, asked: Asked) -> None:
        """Free the key there: the work is committed, and its answer isn't kept."""


def old_store() -> OldStore | None:
    """Return the project's old store, if it is moving away from one.

    Raises:
        ImproperlyConfigured: the setting doesn't lead to one.
    """
    path = conf.IDEMPOTENCY_MOVING_FROM
    if path is None:
        return None
    try:
        store: OldStore = import_string(path)
    except (ImportError, AttributeError, TypeError) as error:
        raise ImproperlyConfigured(_must_be(path, str(error))) from error
    is_store = all(
        callable(getattr(store, name, None)) for name in ("claim", "keep", "release")
    )
    if isinstance(store, type) or not is_store:
        raise ImproperlyConfigured(_must_be(path, "it is something else"))
    return store


def _must_be(path: Any, fault: str) -> str:
    return (
        f"IDEMPOTENCY_MOVING_FROM = {path!r} must be the dotted path of an old store "
        f"({fault}). Write\n\n"
        'IDEMPOTENCY_MOVING_FROM = "yourproject.moving.old_store"'
        "  # old_store = DrfIdempotency()"
    )


def in_both_stores(
    work: Work[Any], request: HttpRequest, operation: Operation
) -> Work[Any]:
    """Return the work with a claim in the old store before it, and its answer after.

    Raises:
        ImproperlyConfigured: the setting is wrong, or the work has a lease.
    """
    if (store := old_store()) is None:
        return work
    require_atomic(operation)
    if (asked := _asked(request, operation)) is None:
        return work

    def claimed_in_both(steps: Steps) -> Outcome[Any]:
        if (verdict := _claimed(store, asked, operation)) is not None:
            raise AnsweredElsewhere(verdict)
        outcome = work(steps)
        # What is rolled back is rolled back there as well.
        if outcome.commits and not rows.is_broken(connections[operation.using]):
            if outcome.answer is None:
                store.release(asked)
            else:
                store.keep(asked, outcome.answer)
        return outcome

    return claimed_in_both


def require_atomic(operation: Operation) -> None:
    """Refuse leased work while the project moves.

    Raises:
        ImproperlyConfigured: its claim and its answer are two transactions.
    """
    if operation.lease is not None and conf.IDEMPOTENCY_MOVING_FROM is not None:
        raise ImproperlyConfigured(
            f"{operation.scope.method} {operation.scope.path} has a lease, so its claim "
            "and its work are not one transaction, and an old process could run the same "
            "key between the two. Nothing was done. Give the view its lease when the "
            "move is over, and protect it until then with\n\n    @idempotent"
        )


def _asked(request: HttpRequest, operation: Operation) -> Asked | None:
    """Return what the old store is asked; ``None``: it can know nothing of this one."""
    key = request.META.get(header_in_meta())
    if key is None:  # it came in a form's field, which only we read
        return None
    hold_body(request)
    try:
        body = request.body
    except RequestDataTooBig:  # the old package has refused it for the same reason
        return None
    return Asked(
        request=request,
        key=key,
        body=body,
        retention=operation.retention,
        using=operation.using,
    )


def _claimed(store: OldStore, asked: Asked, operation: Operation) -> Verdict | None:
    using = operation.using
    try:
        # An old process may hold the row in a transaction of its own.
        with rows.claim_errors(using), rows.locking(using, operation.wait):
            verdict = store.claim(asked)
    except (ClaimTimedOut, ClaimOutrun):
        return InFlight()
    if isinstance(verdict, Replay):
        headers = tuple(without_denied(verdict.answer.headers))
        return replace(verdict, answer=replace(verdict.answer, headers=headers))
    return verdict
