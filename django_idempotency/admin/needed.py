"""What needs somebody: operations that are held and events that were given up."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from django.contrib.admin import AdminSite, site
from django.contrib.admin.sites import all_sites
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.text import Truncator
from django.utils.translation import gettext, ngettext

from django_idempotency.core.operations import TASK, reference_of
from django_idempotency.fields import UtcNow
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.store.events import event_alias
from django_idempotency.store.records import record_alias
from django_idempotency.stories.related import is_guests, links_of, principal_of
from django_idempotency.stories.standing import Standing
from django_idempotency.stories.telling import briefly, duration, moment

from .belongs import Reader

MOST_ROWS = 20
LONGEST = 60
"""Characters of one cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """One row of the list, with one thing to do."""

    tone: str
    state: str
    what: str
    more: str
    """What tells it from others that look the same."""
    who: str
    since: datetime
    why: str
    url: str
    act: str

    @property
    def age(self) -> str:
        return age_of(self.since)


def age_of(since: datetime) -> str:
    at = moment(since)
    return duration(datetime.now(UTC) - at) if at is not None else ""


def needed(request: HttpRequest, *, records: bool, events: bool) -> list[Needed]:
    """Return the newest of those that this person may see."""
    found: list[Needed] = []
    if records:
        found += _held(request)
    if events:
        found += _dead(request)
    found.sort(key=lambda each: each.since, reverse=True)
    return found[:MOST_ROWS]


def _held(request: HttpRequest) -> Iterator[Needed]:
    using = record_alias()
    # Along the partial index, from its end.
    rows: QuerySet[IdempotencyRecord] = (
        QuerySet(IdempotencyRecord, using=using)
        .filter(held_since__isnull=False)
        .exclude(lease_expires_at__gt=UtcNow())
        .order_by("-held_since")
        .defer("response_body", "response_headers")
    )
    records = list(rows[:MOST_ROWS])
    links = links_of(records)
    reader = Reader(request, _site(request))
    may_name = reader.may_name(get_user_model())
    names = names_of({principal_of(record) for record in records}) if may_name else {}
    may_settle = request.user.has_perm("django_idempotency.settle_idempotencyrecord")
    for record in records:
        standing = Standing(record, links[record.pk], who="", now=datetime.now(UTC))
        yield Needed(
            tone="waiting",
            state=gettext("held"),
            what=_cut(standing.heading()),
            more=reference_of(record.pk),
            who=_cut(who_is(record, names)),
            since=record.held_since or record.created_at,
            why=_cut(_why_held(record)),
            url=reverse(
                "admin:django_idempotency_idempotencyrecord_change",
                args=[record.pk],
                current_app=reader.site.name,
            ),
            act=gettext("Find out and settle") if may_settle else gettext("Look at it"),
        )


def names_of(principals: Collection[str]) -> dict[str, str]:
    """Return the names of those that are users, by principal."""
    user_model = get_user_model()
    prefix = f"{user_model._meta.label}:"
    keys = []
    for each in principals:
        if each.startswith(prefix):
            with suppress(ValidationError):
                keys.append(user_model._meta.pk.to_python(each.removeprefix(prefix)))
    if not keys:
        return {}
    users = user_model._default_manager.filter(pk__in=keys)
    return {f"{prefix}{user.pk}": user.get_username() for user in users}


def who_is(record: IdempotencyRecord, names: dict[str, str]) -> str:
    if record.method == TASK:
        return gettext("a task")
    if is_guests(record):
        return gettext("a guest")
    principal = principal_of(record)
    return names.get(principal, principal)


def _why_held(record: IdempotencyRecord) -> str:
    unfinished = [step["name"] for step in record.steps if not step["done"]]
    if not unfinished:
        return gettext("its work was cut off in the middle")
    name = unfinished[-1]
    if record.last_error:
        return gettext("“%(step)s”: %(error)s") % {
            "step": name,
            "error": briefly(record.last_error),
        }
    return gettext("“%(step)s”: no answer, and its worker is gone") % {"step": name}


def _dead(request: HttpRequest) -> Iterator[Needed]:
    rows: QuerySet[ProcessedEvent] = (
        QuerySet(ProcessedEvent, using=event_alias())
        .filter(dead_since__isnull=False)
        .order_by("-dead_since")
        .only(
            *("endpoint", "account", "event_id", "event_type"),
            *("dead_since", "received_at", "attempts", "last_error"),
        )
    )
    may_rerun = request.user.has_perm("django_idempotency.rerun_processedevent")
    for event in rows[:MOST_ROWS]:
        tries = ngettext("%(count)s try", "%(count)s tries", event.attempts) % {
            "count": event.attempts
        }
        yield Needed(
            tone="bad",
            state=gettext("given up"),
            what=_cut(event.event_type or gettext("event")),
            more=_cut(event.event_id),
            who=_cut(event.endpoint),
            since=event.dead_since or event.received_at,
            why=_cut(": ".join(filter(None, (tries, briefly(event.last_error))))),
            url=reverse(
                "admin:django_idempotency_processedevent_change",
                args=[event.pk],
                current_app=_site(request).name,
            ),
            act=gettext("Look and run again") if may_rerun else gettext("Look at it"),
        )


def _cut(text: str) -> str:
    return Truncator(text).chars(LONGEST)


def _site(request: HttpRequest) -> AdminSite:
    """Return the site whose page it is, which has put its name on the request."""
    name = getattr(request, "current_app", None)
    return next((each for each in all_sites if each.name == name), site)
