"""Running an event again from the admin, reopening or dropping it, and what is said."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_idempotency.core.events import EventState
from django_idempotency.models import ProcessedEvent
from django_idempotency.stories.telling import shown_time
from django_idempotency.webhooks.inbox import drop, reopen, rerun

from .acts import Act
from .deciding import Decision, Question
from .pages import known


def _run_again(
    event: ProcessedEvent, *, by: str, reason: str, result: None = None
) -> str:
    return rerun(event, reason=reason, by=by).name.lower()


def _reopen(event: ProcessedEvent, *, by: str, reason: str, result: None = None) -> str:
    reopen(event, reason=reason, by=by)
    return gettext("reopened")


def _drop(event: ProcessedEvent, *, by: str, reason: str, result: None = None) -> str:
    drop(event, reason=reason, by=by)
    return gettext("dropped")


RERUN = Act(
    title=_("Run the selected events again"),
    explanation=_(
        "These events were given up or ignored: nothing of them was done. The handler of "
        "each runs now, once. If it fails, the event is dead again."
    ),
    states=frozenset({EventState.DEAD, EventState.IGNORED}),
    reason_help=_("Recorded on each event."),
    after_commit=True,
    perform=_run_again,
    done=_("Run again"),
)
REOPEN = Act(
    title=_("Let the selected processed events run once more"),
    explanation=_(
        "These events are processed: what their handlers did is done, and stays. With the "
        "provider's next delivery of each the handler runs once more, with all that it "
        "does: write, charge, send. Nothing runs before that; ask the provider to send "
        "the events again."
    ),
    states=frozenset({EventState.PROCESSED}),
    reason_help=_("Recorded on each event."),
    after_commit=True,
    perform=_reopen,
    done=_("Reopened"),
)


DROP = Act(
    title=_("Drop the payload"),
    explanation=_("The event can't be run any more."),
    states=frozenset({EventState.DEAD, EventState.IGNORED}),
    reason_help=_("Recorded on the event."),
    after_commit=True,
    perform=_drop,
    done=_("Dropped the payload"),
)


def _facts(event: ProcessedEvent) -> list[tuple[str, str]]:
    return known(
        (gettext("Event"), event.event_id),
        (gettext("Event type"), event.event_type),
        (gettext("About"), event.object_key),
        (gettext("Receiver"), event.endpoint),
        (gettext("Received"), shown_time(event.received_at)),
        (gettext("Last error"), event.last_error),
    )


def _run_question(event: ProcessedEvent, customer: str) -> Question:
    return Question(
        title=gettext("Run it again?"),
        facts=_facts(event),
        effect=gettext(
            "Nothing of this event was done. Its handler runs now, once; if it fails, the "
            "event is dead again."
        ),
    )


def _reopen_question(event: ProcessedEvent, customer: str) -> Question:
    return Question(
        title=gettext("Let it run once more?"),
        facts=_facts(event),
        effect=gettext(
            "What its handler did is done, and stays. With the provider's next delivery "
            "it runs once more, with all that it does: write, charge, send. Nothing runs "
            "before that; ask the provider to send the event again."
        ),
        is_dangerous=True,
    )


def _drop_question(event: ProcessedEvent, customer: str) -> Question:
    return Question(
        title=gettext("Drop its payload?"),
        facts=_facts(event),
        effect=gettext(
            "What the provider has sent is gone, and nothing of it was done. The event "
            "can't be run again, and a further delivery of it is a duplicate."
        ),
        is_dangerous=True,
    )


def _said(text: Any) -> Any:
    return lambda event: str(text)


DECISIONS = (
    Decision(
        name="run-again",
        act=RERUN,
        permission="rerun",
        label=_said(_("Run it again…")),
        question=_run_question,
    ),
    Decision(
        name="reopen",
        act=REOPEN,
        permission="reopen",
        label=_said(_("Let it run once more…")),
        question=_reopen_question,
    ),
    Decision(
        name="drop",
        act=DROP,
        permission="drop",
        label=_said(_("Drop its payload…")),
        question=_drop_question,
        is_aside=True,
    ),
)
