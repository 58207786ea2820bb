"""Whether a caller may still see the first answer, or has lost its object since.

Note [What the first call itself took away]
A call can put its own object out of reach: it pays, cancels, archives or deletes it, and
the view's `get_object()` finds it no more, or a permission about its state refuses now.
The repeat of that call must get its answer all the same. So the question that each repeat
is asked is asked once at the end of the first call, in its transaction, and a refusal is
remembered with the answer. At a repeat only a refusal of that kind is passed over;
whatever else was lost by then was lost later, and is refused as without us.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from django.core.exceptions import PermissionDenied
from django.db import connections, transaction
from django.http import Http404

from django_idempotency.core.operations import StoredAnswer
from django_idempotency.exceptions import name_of
from django_idempotency.store.records import record_alias
from django_idempotency.store.rows import is_broken

logger = logging.getLogger("django_idempotency")

REFUSED = "refused"
"""The extra with the kind of refusal at the end of the first call; empty: none."""


class Checked(Protocol):
    """The part of a `ProtectedView` that knows who may see its answer."""

    @property
    def has_object(self) -> bool:
        """Whether it is about one object, which its own work may put out of reach."""

    @property
    def checks_at_end(self) -> bool:
        """Whether it wants to know what its own work has put out of reach."""

    @property
    def check_replay(self) -> Callable[[bool], None] | None:
        """Raises what the view would raise for a caller who has lost access.

        It is called with whether the view is known to be about one object. ``None``:
        the access checks are further out and have passed.
        """


def with_refusal(answer: StoredAnswer, view: Checked) -> StoredAnswer:
    """Ask a view about one object what it will ask a repeat, and remember what it says.

    Nothing that this writes or locks stays. An error that is no refusal is the view's
    own, and doesn't undo its work: it is logged, and the repeat will meet it again.
    """
    using = record_alias()
    if view.check_replay is None or is_broken(connections[using]):
        return answer
    refused = ""
    try:
        if view.checks_at_end:
            with transaction.atomic(using=using):
                view.check_replay(True)
                transaction.set_rollback(True, using=using)
    except Exception as error:
        refused = kind_of(error) or ""
        if not refused:
            logger.warning(
                "check_replay() raised %s at the end of a first call",
                name_of(error),
                exc_info=error,
            )
    return replace(answer, extras={**answer.extras, REFUSED: refused})


def check_replay(view: Checked, answer: StoredAnswer) -> None:
    """Raise what the view raises for a caller who has lost access since the first call.

    It is asked in a transaction such as the handler has.
    """
    if view.check_replay is None:
        return
    refused = answer.extras.get(REFUSED)
    try:
        with transaction.atomic(using=record_alias()):
            view.check_replay(refused is not None)
    except Exception as error:
        if not refused or kind_of(error) != refused:
            raise


def kind_of(error: Exception) -> str | None:
    """Return the status of a refusal and the framework's code; ``None``: it is none.

    An error that is not meant as an answer must never let a repeat pass.
    """
    if isinstance(error, Http404):
        return "404 not_found"
    if isinstance(error, PermissionDenied):
        return "403 permission_denied"
    status = getattr(error, "status_code", None)
    is_frameworks = hasattr(error, "default_code")  # not some HTTP client's
    if not is_frameworks or not isinstance(status, int) or not 400 <= status < 500:
        return None
    code = getattr(getattr(error, "detail", None), "code", "")
    return f"{status} {code}".strip()
