"""The filters of the lists: each goes along an index, or looks at the newest rows only.

What waits for a person is in an index of its own. Other states and the methods are in
none, since each update would then leave its page; a filter on the whole table would read
all of it, to find a few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.formats import number_format
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.stories.finding import METHODS

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise as StrPromise

MOST_COUNTED = 10_000
"""A list shows at most this many rows: counting a whole large table takes long."""

WAITING = {
    (IdempotencyRecord, "held"): "held_since",
    (ProcessedEvent, "dead"): "dead_since",
}
"""In whose index are only the rows of this state."""


class _FixedFilter(admin.SimpleListFilter):
    """Has a fixed list: asking for the values in the table would read all of it."""

    column: str

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        found = queryset.filter(**{self.column: value})
        if index := WAITING.get((queryset.model, value)):
            return found.filter(**{f"{index}__isnull": False})
        oldest = _oldest_of_newest(queryset)
        if oldest is None:
            return found
        number = number_format(MOST_COUNTED, use_l10n=True, force_grouping=True)
        told = gettext("Looked for among the %(number)s rows that are kept longest.")
        messages.info(request, told % {"number": number})
        return found.filter(expires_at__gte=oldest)


def _oldest_of_newest(queryset: QuerySet[Any]) -> Any:
    """Return until when the last row is kept that is looked at; ``None``: all are."""
    rows: QuerySet[Any] = QuerySet(queryset.model, using=queryset.db)
    latest = rows.order_by("-expires_at").values_list("expires_at", flat=True)
    return next(iter(latest[MOST_COUNTED - 1 : MOST_COUNTED]), None)


class StateFilter(_FixedFilter):
    title: StrPromise = _("state")
    # As Django's own would be called.
    parameter_name = "state__exact"
    column = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(model_admin.opts.get_field("state").flatchoices)


class MethodFilter(_FixedFilter):
    title: StrPromise = _("method")
    parameter_name = "method"
    column = "method"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(method, method) for method in METHODS]
