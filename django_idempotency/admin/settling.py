"""Settling from the admin: the two ways, and what is said about each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_idempotency.core.decisions import RecordState
from django_idempotency.core.links import LinkKind
from django_idempotency.models import IdempotencyRecord, OperationLink
from django_idempotency.store.links import of_row
from django_idempotency.stories.related import is_customer
from django_idempotency.stories.standing import Standing
from django_idempotency.stories.telling import moment

from .acts import Act
from .deciding import Decision, Question
from .pages import known
from .results import earlier_result

# The second one if it was committed in the middle of its work; `settle()` refuses one
# that is running.
HELD = frozenset({RecordState.HELD, RecordState.IN_FLIGHT})


def _settled(
    record: IdempotencyRecord, *, by: str, reason: str, result: Any, applied: bool
) -> str:
    record.settle(applied=applied, result=result, reason=reason, by=by)
    return gettext("settled")


def _as_applied(record: IdempotencyRecord, **given: Any) -> str:
    return _settled(record, applied=True, **given)


def _as_not_applied(record: IdempotencyRecord, **given: Any) -> str:
    return _settled(record, applied=False, **given)


APPLIED = Act(
    title=_("Settle the selected held records: it was applied"),
    explanation=_(
        "The call whose outcome is unknown has happened. The client's retry goes on with "
        "the result that you give, the same one for each of these records."
    ),
    states=HELD,
    reason_help=_("How you found out."),
    result_help=_("What the call would have returned, as JSON."),
    perform=_as_applied,
    done=_("Settled: the call has happened"),
)
NOT_APPLIED = Act(
    title=_("Settle the selected held records: it was not applied"),
    explanation=_(
        "The call whose outcome is unknown has not happened. The client's retry makes it, "
        "with the same key."
    ),
    states=HELD,
    reason_help=_("How you found out."),
    perform=_as_not_applied,
    done=_("Settled: the call has not happened"),
)


def open_step(record: IdempotencyRecord) -> dict[str, Any]:
    """Return the step whose outcome is unknown; empty if it is none of them."""
    steps = record.steps
    return steps[-1] if steps and not steps[-1]["done"] else {}


def _applied_label(record: IdempotencyRecord) -> str:
    if step := open_step(record):
        return gettext("It is there: “%(call)s” has happened…") % {"call": step["name"]}
    return gettext("It is done: all of it…")


def _not_applied_label(record: IdempotencyRecord) -> str:
    if step := open_step(record):
        call = {"call": step["name"]}
        return gettext("It is not there: let the retry make “%(call)s”…") % call
    return gettext("It is not done: let the retry do it…")


def _facts(
    record: IdempotencyRecord, links: Sequence[OperationLink], customer: str
) -> list[tuple[str, str]]:
    amounts = ", ".join(link.amount for link in links if link.amount)
    about = ", ".join(
        link.label or link.value
        for link in links
        if link.kind == LinkKind.OBJECT and not is_customer(link, record)
    )
    return known(
        (gettext("Customer"), customer),
        (gettext("Amount"), amounts or gettext("not named")),
        (gettext("About"), about),
        (gettext("Step"), open_step(record).get("name", gettext("none is open"))),
        (gettext("Endpoint"), f"{record.method} {record.path}"),
        (gettext("Reference"), record.reference),
    )


def _look_for(
    record: IdempotencyRecord, links: Sequence[OperationLink], customer: str
) -> str:
    return Standing(record, links, who=customer, now=datetime.now(UTC)).look_for()


def _applied_question(record: IdempotencyRecord, customer: str) -> Question:
    links = of_row(record.pk, using=str(record._state.db))
    step = open_step(record)
    return Question(
        title=(
            gettext("It is there: “%(call)s” has happened?") % {"call": step["name"]}
            if step
            else gettext("It is done: all of it?")
        ),
        facts=_facts(record, links, customer),
        look_for=_look_for(record, links, customer),
        effect=gettext(
            "“%(call)s” is not made again. The customer's next try goes on after it, with "
            "the result that you give here."
        )
        % {"call": step["name"]}
        if step
        else gettext(
            "Nothing runs again. A repeat is told that nobody has the answer."
        ),
    )


def _not_applied_question(record: IdempotencyRecord, customer: str) -> Question:
    links = of_row(record.pk, using=str(record._state.db))
    step = open_step(record)
    return Question(
        title=(
            gettext("It is not there: let the retry make “%(call)s”?")
            % {"call": step["name"]}
            if step
            else gettext("It is not done: let the retry do it?")
        ),
        facts=_facts(record, links, customer),
        look_for=_look_for(record, links, customer),
        effect=gettext(
            "The customer's next try makes “%(call)s” again, with the same key. If it has "
            "happened after all, and the provider doesn't honour the key, it happens a "
            "second time."
        )
        % {"call": step["name"]}
        if step
        else gettext("The customer's next try does all of it again."),
        is_dangerous=True,
    )


def _example(record: IdempotencyRecord) -> Any:
    step = open_step(record)
    return earlier_result(record, str(step["name"])) if step else None


def _can_be_settled(record: IdempotencyRecord) -> bool:
    lease_end = moment(record.lease_expires_at)
    if lease_end is None:
        return True
    return record.state == RecordState.HELD and lease_end <= datetime.now(UTC)


DECISIONS = (
    Decision(
        name="applied",
        act=APPLIED,
        permission="settle",
        label=_applied_label,
        question=_applied_question,
        example=_example,
        is_possible=_can_be_settled,
    ),
    Decision(
        name="not-applied",
        act=NOT_APPLIED,
        permission="settle",
        label=_not_applied_label,
        question=_not_applied_question,
        is_possible=_can_be_settled,
    ),
)
