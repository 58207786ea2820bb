"""The rows of an operation's story: its copies and steps, people, and the provider."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_idempotency.core.history import OTHER_SIDE, Happening
from django_idempotency.models import ProcessedEvent

from .telling import Lane, Row, Tone, moment, value

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise as StrPromise

TIMES = ("began", "ended")
SHORTEST_WAIT = timedelta(milliseconds=10)
"""Below it a copy was answered at once."""

_COPIES: dict[str, tuple[str | StrPromise, str | StrPromise, Tone]] = {
    Happening.REPLAYED: (
        _("A repeat got the first answer again (%(status)s)."),
        _("repeat → %(status)s"),
        Tone.GOOD,
    ),
    Happening.IN_FLIGHT: (
        _("A copy came while it was running, and was told to come again (409)."),
        _("copy → 409 “come again”"),
        Tone.PLAIN,
    ),
    Happening.MISMATCHED: (
        _("The key came with other content, and was refused (422)."),
        _("other content → 422"),
        Tone.BAD,
    ),
    Happening.POSSIBLE_DUPLICATE: (
        _(
            "The same came under another key, as %(other)s, and was refused as a "
            "possible duplicate of this (409)."
        ),
        _("same, other key → 409"),
        Tone.WAITING,
    ),
    Happening.REFUSED: (
        _("It came again, and was told that the outcome is not known yet (409)."),
        _("retry → 409 “not known yet”"),
        Tone.WAITING,
    ),
}


def copy_row(what: str, note: dict[str, Any], status: int | None) -> Row:
    """Tell what a request was told that did not run."""
    text, short, tone = _COPIES.get(what, (what, what, Tone.PLAIN))
    at = moment(note.get("at"))
    waited = timedelta(seconds=float(note.get("waited") or 0))
    is_long = waited >= SHORTEST_WAIT
    names = {"status": status or 200, "other": note.get("other", "")}
    return Row(
        lane=Lane.REQUESTS,
        at=at - waited if at and is_long else at,
        text=str(text) % names,
        short=str(short) % names,
        until=at if is_long else None,
        tone=tone,
    )


def settled_row(note: dict[str, Any]) -> Row:
    """Tell who has found out what became of a call."""
    names = {"by": note.get("by") or gettext("Somebody")}
    is_other_side = note.get("by") == OTHER_SIDE
    if is_other_side:
        text = gettext("The provider's event said that the call has happened.")
        short = gettext("settled by its event")
    else:
        text = (
            gettext("%(by)s found out that the call has happened.")
            if note.get("applied")
            else gettext("%(by)s found out that the call has not happened.")
        )
        short = gettext("settled by %(by)s")
    return Row(
        lane=Lane.PROVIDER if is_other_side else Lane.PEOPLE,
        at=moment(note.get("at")),
        text=text % names,
        note=str(note.get("reason", "")),
        short=short % names,
        tone=Tone.GOOD,
    )


_ACTS: dict[str, StrPromise] = {
    Happening.FREED: _(
        "%(by)s found out that nothing has happened, and released the key."
    ),
    Happening.FORGOTTEN: _("%(by)s let the answer be forgotten."),
    Happening.ERASED: _("%(by)s erased what was stored of the customer."),
}


def expired_row(note: dict[str, Any]) -> Row:
    """Tell until when the answer was kept."""
    return Row(
        lane=Lane.REQUESTS,
        at=moment(note.get("at")),
        text=gettext("The answer was kept until then."),
        short=gettext("retention over"),
    )


def act_row(what: str, note: dict[str, Any]) -> Row:
    """Tell what somebody did to the record."""
    names = {"by": note.get("by") or gettext("Somebody")}
    return Row(
        lane=Lane.PEOPLE,
        at=moment(note.get("at")),
        text=str(_ACTS[what]) % names,
        note=str(note.get("reason", "")),
        short=gettext("by %(by)s") % names,
        tone=Tone.PLAIN,
    )


def step_rows(
    step: dict[str, Any], *, key: str, running_until: datetime | None, ended: Any
) -> Iterator[Row]:
    """Tell of a step; `key` is the one that its call has handed over.

    `running_until` is now if it is running; `ended` is when it was given up, if known.
    """
    name, is_done = str(step["name"]), bool(step["done"])
    at, until = (moment(step.get(each)) for each in TIMES)
    if is_done:
        is_refused = bool(step.get("refused"))
        text = (
            gettext("Step %(name)s refused")
            if is_refused
            else gettext("Step %(name)s done")
        )
        result = (
            gettext("can't be read")
            if step.get("unreadable")
            else value(step.get("result"))
        )
        short = f"{name} ✗" if is_refused else f"{name} ✓"
        tone = Tone.BAD if is_refused else Tone.GOOD
    else:
        is_now = running_until is not None
        end = gettext("is being made") if is_now else gettext("outcome unknown")
        text, result = (
            (
                gettext("Step %(name)s begun: is being made")
                if is_now
                else gettext("Step %(name)s begun: outcome unknown")
            ),
            "",
        )
        short = f"{name} … {end}"
        tone = Tone.PLAIN if is_now else Tone.WAITING
        until = running_until or ended or until
    yield Row(
        lane=Lane.STEPS,
        at=at,
        text=text % {"name": name},
        result=result,
        note=gettext("with our key %(key)s…") % {"key": key[:8]} if key else "",
        short=short,
        until=until,
        is_open=not is_done,
        tone=tone,
    )
    if step["kind"] == "call" and at is not None:
        # In the table the step says it.
        called = gettext("called for %(name)s") % {"name": name}
        yield Row(lane=Lane.PROVIDER, at=at, text="", short=called, in_table=False)


def event_rows(events: Iterable[ProcessedEvent]) -> Iterator[Row]:
    """Tell of the provider's events that belong to the operation."""
    for event in events:
        names = {
            "type": event.event_type or gettext("an event"),
            "state": event.get_state_display(),
        }
        yield Row(
            lane=Lane.PROVIDER,
            at=moment(event.received_at),
            text=gettext("The provider sent %(type)s: %(state)s") % names,
            note=event.event_id,
            short=names["type"],
            tone=Tone.GOOD if event.processed_at else Tone.WAITING,
        )
