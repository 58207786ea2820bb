"""Webhook events: read-only, but with a permission of its own to run them again."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_idempotency.core.events import EventState
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.stories.event import story_of_event
from django_idempotency.stories.finding import Search
from django_idempotency.stories.masking import masked_headers, preformatted, shown_body
from django_idempotency.stories.related import related_to_event
from django_idempotency.stories.telling import shown_time

from .belongs import (
    Belonging,
    Reader,
    keys_in,
    objects_in,
    related_event,
    related_record,
)
from .deciding import DecidingAdmin
from .filters import StateFilter
from .pages import Page, known
from .read_only import LONGEST_IN_LIST
from .rerunning import DECISIONS, REOPEN, RERUN


@admin.register(ProcessedEvent)
class ProcessedEventAdmin(DecidingAdmin):
    list_display = (
        "received_at",
        "endpoint",
        "shown_type",
        "state",
        "attempts",
        "next_attempt_at",
        "expires_at",
    )
    list_filter = (StateFilter, "expires_at")
    search_help_text = _(
        "An event (evt_…), an object of the provider (pi_…), an order or another object "
        "(shop.order:7), what about() was given, the key or reference of an operation that "
        "it came of, the row's id, or endpoint, source, account and event id separated by "
        "bars. Always the whole of it."
    )
    actions = ("run_again", "reopen")
    deferred = ("payload", "headers")
    decisions = DECISIONS
    consequence = _(
        "With the row the package forgets that this was done: the provider's next "
        "delivery of the event runs its handler again."
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProcessedEvent]:
        """Defer what only an event's own page shows: each can have megabytes."""
        rows: QuerySet[ProcessedEvent] = super().get_queryset(request)
        return rows.defer("payload", "headers", "reruns", "history")

    def found_by(self, search: Search) -> set[uuid.UUID]:
        return search.events

    def found_elsewhere(self, search: Search) -> tuple[type[Model], set[uuid.UUID]]:
        return IdempotencyRecord, search.records

    def has_rerun_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_idempotency.rerun_processedevent")

    def has_reopen_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_idempotency.reopen_processedevent")

    def has_drop_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_idempotency.drop_processedevent")

    @admin.action(permissions=["rerun"], description=RERUN.title)
    def run_again(self, request: HttpRequest, events: QuerySet[ProcessedEvent]) -> Any:
        return self.confirmed_or_asked(request, events, RERUN)

    @admin.action(permissions=["reopen"], description=REOPEN.title)
    def reopen(self, request: HttpRequest, events: QuerySet[ProcessedEvent]) -> Any:
        return self.confirmed_or_asked(request, events, REOPEN)

    @admin.display(description=_("type"))
    def shown_type(self, event: ProcessedEvent) -> str:
        return Truncator(event.event_type).chars(LONGEST_IN_LIST)

    def page_of(
        self, request: HttpRequest, event: ProcessedEvent, reader: Reader
    ) -> Page:
        related = related_to_event(event)
        return Page(
            story=story_of_event(event, related.links, now=datetime.now(UTC)),
            belongs=[
                *(
                    [Belonging(name=gettext("Object"), text=event.object_key)]
                    if event.object_key
                    else []
                ),
                *objects_in(related.links, reader),
                *keys_in(related.links),
            ],
            related=[
                *(related_record(each, reader) for each in related.records),
                *(related_event(each, reader) for each in related.events),
            ],
            technical=_technical(event),
            folded=_folded(event),
            choices=self.choices(request, event),
            asides=self.choices(request, event, aside=True),
            no_relation=gettext("Operation"),
        )


def _technical(event: ProcessedEvent) -> list[tuple[str, str]]:
    return known(
        (gettext("Receiver"), event.endpoint),
        (gettext("Provider"), event.source),
        (gettext("Account"), event.account),
        (gettext("Event"), event.event_id),
        (gettext("Row"), event.pk),
        (gettext("Body digest"), event.body_digest),
        (gettext("Kept until"), _kept_until(event)),
        (gettext("Error"), event.last_error),
    )


def _kept_until(event: ProcessedEvent) -> str:
    is_open = event.state == EventState.DEAD or event.next_attempt_at is not None
    return gettext("it is done") if is_open else shown_time(event.expires_at)


def _folded(event: ProcessedEvent) -> list[tuple[str, SafeString]]:
    body = shown_body(event) or (
        gettext("Dropped: it can't be run again.")
        if event.state == EventState.DROPPED
        else gettext("Cleared, since the event is done.")
    )
    headers = preformatted(masked_headers(event.headers.items()))
    return [(gettext("Payload"), format_html("{}{}", headers, body))]
