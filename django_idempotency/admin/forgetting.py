"""Forgetting and releasing from the admin: each with a permission of its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from django_idempotency.core.decisions import RecordState
from django_idempotency.core.operations import ERASED, TASK
from django_idempotency.models import IdempotencyRecord
from django_idempotency.store.forgetting import (
    erase,
    forget_answer,
    release_stuck,
    why_not_forgotten,
)
from django_idempotency.stories.related import is_guests, principal_of
from django_idempotency.stories.telling import moment, sentences

from .acts import Act
from .deciding import Decision, Question
from .pages import known

ANY = frozenset(RecordState)


def _released(record: IdempotencyRecord, *, by: str, reason: str, result: Any) -> str:
    release_stuck(record, by=by, reason=reason)
    return gettext("released")


def _forgotten(record: IdempotencyRecord, *, by: str, reason: str, result: Any) -> str:
    forget_answer(record, by=by, reason=reason)
    return gettext("forgotten")


def _erased(record: IdempotencyRecord, *, by: str, reason: str, result: Any) -> str:
    erasure = erase(principal_of(record), by=by, reason=reason)
    record.scope = record.path = record.key = ERASED  # for the admin's own log
    count = len(erasure.done)
    told = ngettext(
        "%(count)s record is erased.", "%(count)s records are erased.", count
    ) % {"count": count}
    if not erasure.left:
        return told
    count = len(erasure.left)
    left = ngettext(
        "%(count)s is left as it is: %(why)s",
        "%(count)s are left as they are, such as: %(why)s",
        count,
    ) % {"count": count, "why": erasure.left[0][1]}
    return sentences(told, left)


RELEASE = Act(
    title=_("Release a stuck key"),
    explanation=_("Nothing of the work has happened. The next try does all of it."),
    states=frozenset({RecordState.IN_FLIGHT}),
    reason_help=_("How you found out that nothing has happened."),
    perform=_released,
    done=_("Released the key"),
)
FORGET = Act(
    title=_("Forget the answer"),
    explanation=_("A repeat is told that it was done, and that nobody has the answer."),
    states=frozenset({RecordState.KEPT}),
    reason_help=_("Who has asked for it."),
    perform=_forgotten,
    done=_("Let the answer be forgotten"),
)
ERASE = Act(
    title=_("Erase a person"),
    explanation=_("Nothing is left that tells of the person."),
    states=ANY,
    reason_help=_("Who has asked for it. Don't name the person: it is recorded."),
    perform=_erased,
    done=_("Erased a person"),
    after_commit=True,
)


def is_stuck(record: IdempotencyRecord) -> bool:
    """Whether its worker is gone, or it was committed in the middle of its work."""
    lease_end = moment(record.lease_expires_at)
    is_running = lease_end is not None and lease_end > datetime.now(UTC)
    return not is_running and not any(step["done"] for step in record.steps)


def can_be_forgotten(record: IdempotencyRecord) -> bool:
    return not why_not_forgotten(record)


def can_be_erased(record: IdempotencyRecord) -> bool:
    """Whether it is of one person, as a user or a project's own principal is."""
    is_shared = record.method == TASK or is_guests(record)
    return record.scope != ERASED and not is_shared


def _facts(record: IdempotencyRecord, customer: str) -> list[tuple[str, str]]:
    return known(
        (gettext("Customer"), customer),
        (gettext("Endpoint"), f"{record.method} {record.path}"),
        (gettext("Reference"), record.reference),
    )


def _release_question(record: IdempotencyRecord, customer: str) -> Question:
    return Question(
        title=gettext("Release the key?"),
        facts=_facts(record, customer),
        look_for=gettext("Look at what the work has written, and at what it has sent."),
        effect=gettext(
            "The customer's next try does all of it. If something has happened after "
            "all, it happens a second time."
        ),
        is_dangerous=True,
    )


def _forget_question(record: IdempotencyRecord, customer: str) -> Question:
    return Question(
        title=gettext("Forget the answer?"),
        facts=_facts(record, customer),
        effect=gettext(
            "The answer, the results of its steps and what it is about are gone. Nothing "
            "runs again: a repeat is told that it was carried out."
        ),
    )


def _erase_question(record: IdempotencyRecord, customer: str) -> Question:
    return Question(
        title=gettext("Erase this person?"),
        facts=_facts(record, customer),
        effect=gettext(
            "In all operations of this person, answers, keys and addresses are gone. "
            "Nothing runs again: a repeat is told that it was carried out. Operations "
            "without an end are left as they are, and webhook events as well."
        ),
        is_dangerous=True,
    )


DECISIONS: Sequence[Decision] = (
    Decision(
        name="release",
        act=RELEASE,
        permission="release",
        label=lambda record: gettext("Nothing has happened: release the key…"),
        question=_release_question,
        is_possible=is_stuck,
    ),
    Decision(
        name="forget",
        act=FORGET,
        permission="forget",
        label=lambda record: gettext("Forget the answer…"),
        question=_forget_question,
        is_possible=can_be_forgotten,
        is_aside=True,
    ),
    Decision(
        name="erase",
        act=ERASE,
        permission="erase",
        label=lambda record: gettext("Erase this person…"),
        question=_erase_question,
        is_possible=can_be_erased,
        is_aside=True,
    ),
)
