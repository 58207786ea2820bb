"""Records: read-only, but with a permission of its own to settle the held ones.

Deleting a record lets its operation run a second time, so it takes the model's own
delete permission and Django's confirmation page.
"""

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

from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.stories.finding import Search
from django_idempotency.stories.masking import (
    MASK,
    as_text,
    masked_headers,
    preformatted,
    shown_body,
)
from django_idempotency.stories.operation import story_of_record
from django_idempotency.stories.related import is_guests, related_to_record
from django_idempotency.stories.telling import shown_time

from . import forgetting
from .belongs import (
    Reader,
    customer_of,
    keys_in,
    objects_in,
    related_event,
    related_record,
)
from .deciding import DecidingAdmin
from .filters import MethodFilter, StateFilter
from .pages import Page, known, not_kept
from .read_only import LONGEST_IN_LIST
from .settling import APPLIED, DECISIONS, HELD, NOT_APPLIED


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(DecidingAdmin):
    list_display = (
        "created_at",
        "shown_request",
        "state",
        "shown_status",
        "attempts",
        "replays",
        "expires_at",
    )
    list_filter = (StateFilter, MethodFilter, "expires_at")
    search_help_text = _(
        "A key, a reference such as A7C1-11BF, an order or another object (shop.order:7), "
        "what about() was given, a payment or event of the provider (pi_…, evt_…), a "
        "customer that about() was given, the record's id, or scope and key separated by "
        "a space. Always the whole of it."
    )
    actions = ("settle_as_applied", "settle_as_not_applied")
    deferred = ("response_body", "response_headers")
    decisions = (*DECISIONS, *forgetting.DECISIONS)
    undeletable = HELD
    consequence = _(
        "With the record the package forgets that this was done: the next repeat of it, "
        "such as a retry or a second click, does the work again."
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[IdempotencyRecord]:
        """Defer what only a record's own page shows: each can have a megabyte."""
        rows: QuerySet[IdempotencyRecord] = super().get_queryset(request)
        return rows.defer(
            "response_body", "response_headers", "effects", "earlier_steps"
        )

    def found_by(self, search: Search) -> set[uuid.UUID]:
        return search.records

    def found_elsewhere(self, search: Search) -> tuple[type[Model], set[uuid.UUID]]:
        return ProcessedEvent, search.events

    def has_settle_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_idempotency.settle_idempotencyrecord")

    @admin.action(permissions=["settle"], description=APPLIED.title)
    def settle_as_applied(
        self, request: HttpRequest, records: QuerySet[IdempotencyRecord]
    ) -> Any:
        return self.confirmed_or_asked(request, records, APPLIED)

    @admin.action(permissions=["settle"], description=NOT_APPLIED.title)
    def settle_as_not_applied(
        self, request: HttpRequest, records: QuerySet[IdempotencyRecord]
    ) -> Any:
        return self.confirmed_or_asked(request, records, NOT_APPLIED)

    def has_release_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_idempotency.release_idempotencyrecord")

    def has_forget_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_idempotency.forget_idempotencyrecord")

    def has_erase_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_idempotency.erase_idempotencyrecord")

    def customer(self, request: HttpRequest, record: IdempotencyRecord) -> str:
        return customer_of(record, Reader(request, self.admin_site)).text

    @admin.display(description=_("request"))
    def shown_request(self, record: IdempotencyRecord) -> str:
        return Truncator(f"{record.method} {record.path}").chars(LONGEST_IN_LIST)

    @admin.display(description=_("status"))
    def shown_status(self, record: IdempotencyRecord) -> int | None:
        return record.response_status

    def page_of(
        self, request: HttpRequest, record: IdempotencyRecord, reader: Reader
    ) -> Page:
        related = related_to_record(record)
        customer = customer_of(record, reader)
        return Page(
            story=story_of_record(
                record, related, who=customer.text, now=datetime.now(UTC)
            ),
            belongs=[
                customer,
                *objects_in(
                    # The customer is named already.
                    (each for each in related.links if each.label != customer.text),
                    reader,
                ),
                *keys_in(related.links),
            ],
            related=[
                *(related_event(event, reader) for event in related.events),
                *(related_record(each, reader) for each in related.records),
            ],
            technical=_technical(record),
            folded=_folded(record),
            choices=self.choices(request, record),
            asides=self.choices(request, record, aside=True),
            no_relation=gettext("Webhook event"),
        )


def _technical(record: IdempotencyRecord) -> list[tuple[str, str]]:
    """A guest's key is a bearer secret."""
    key = f"{record.key[:4]}{MASK}" if is_guests(record) else record.key
    is_open = record.state in HELD and record.response_status is None
    return known(
        (gettext("Endpoint"), f"{record.method} {record.path}"),
        (gettext("Key"), key),
        (gettext("Reference"), record.reference),
        (gettext("Record"), record.pk),
        (
            gettext("Kept until"),
            gettext("it is settled") if is_open else shown_time(record.expires_at),
        ),
        (gettext("Late repeats refused until"), shown_time(record.remembered_until)),
        (gettext("Lease until"), shown_time(record.lease_expires_at)),
        (gettext("Error"), record.last_error),
    )


def _folded(record: IdempotencyRecord) -> list[tuple[str, SafeString]]:
    memory = record.effects
    if steps := record.steps:
        memory = {**memory, "steps": steps}
    status = record.response_status
    answer = format_html(
        "{}{}{}",
        preformatted(str(status)) if status else "",
        preformatted(masked_headers(record.response_headers or ())),
        shown_body(record) or not_kept(),
    )
    return [
        (gettext("Stored answer"), answer),
        *([(gettext("Steps"), preformatted(as_text(memory)))] if memory else []),
        (
            gettext("Scope and fingerprint"),
            preformatted(f"{record.scope}\n{record.fingerprint}"),
        ),
    ]
