"""The records, to look at: nothing here can be added or changed.

Deleting a record lets its operation run a second time, so it takes the model's own
delete permission and Django's confirmation page.
"""

from __future__ import annotations

import json
import re
import uuid
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from .http import ANONYMOUS
from .models import IdempotencyRecord
from .operations import Scope, record_id_of
from .protection import HONOUR_KEY

if TYPE_CHECKING:
    _Paginator = Paginator[IdempotencyRecord]
    _ModelAdmin = admin.ModelAdmin[IdempotencyRecord]
else:
    _Paginator = Paginator
    if apps.is_installed("unfold"):
        from unfold.admin import ModelAdmin as _ModelAdmin
    else:
        _ModelAdmin = admin.ModelAdmin

MOST_COUNTED = 10_000
"""The list shows so many records at most: counting all of a large table takes long."""

LONGEST_IN_LIST = 40
"""So many characters of method and path leave room for what became of them."""

_SENSITIVE = re.compile(
    r"auth|cookie|key|password|secret|session|signature|token", re.I
)
MASK = "••••••"
_SCOPE = re.compile(r"(.+)\|(POST|PATCH|PUT|DELETE)\|(/.*)", re.DOTALL)


class BoundedPaginator(_Paginator):
    """Counts no further than anybody will leaf."""

    @cached_property
    def count(self) -> int:
        rows: QuerySet[IdempotencyRecord] = self.object_list  # type: ignore[assignment]
        return rows.order_by()[:MOST_COUNTED].count()


class MethodFilter(admin.SimpleListFilter):
    """A fixed list: asking the table which methods it holds would read all of it."""

    title = _("method")
    parameter_name = "method"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(method, method) for method in sorted(HONOUR_KEY)]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[IdempotencyRecord]
    ) -> QuerySet[IdempotencyRecord]:
        return queryset.filter(method=self.value()) if self.value() else queryset


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(_ModelAdmin):
    list_display = (
        "created_at",
        "shown_request",
        "state",
        "shown_status",
        "attempts",
        "replays",
        "expires_at",
    )
    list_filter = ("state", MethodFilter, "expires_at")
    # The one column with an index; by any other the whole table would be sorted.
    ordering = ("-expires_at",)
    sortable_by = ("expires_at",)
    search_fields = ("pk",)
    search_help_text = _(
        "The record's id, or scope and key with a blank between: "
        "shop.User:7|POST|/checkout/ 5f0c9b1e-… Both find it by the primary key; "
        "there is no index for parts of them."
    )
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each of them would count the table
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "state",
                    "shown_scope",
                    "shown_key",
                    "shown_fingerprint",
                    "id",
                )
            },
        ),
        (
            _("Answer"),
            {"fields": ("response_status", "shown_headers", "shown_body")},
        ),
        (
            _("Life"),
            {
                "fields": (
                    "created_at",
                    "completed_at",
                    "expires_at",
                    "attempts",
                    "last_error",
                    "replays",
                    "last_replayed_at",
                )
            },
        ),
    )

    class Media:
        css = {"all": ("django_idempotency/admin.css",)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[IdempotencyRecord]:
        """Leave what only a record's own page shows: it can be a megabyte each."""
        rows = super().get_queryset(request)
        return rows.defer("response_body", "response_headers", "effects")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(
        self, request: HttpRequest, obj: IdempotencyRecord | None = None
    ) -> bool:
        return False

    def get_search_results(
        self,
        request: HttpRequest,
        queryset: QuerySet[IdempotencyRecord],
        search_term: str,
    ) -> tuple[QuerySet[IdempotencyRecord], bool]:
        """Find by primary key only; a term that can't be one says so."""
        term = search_term.strip()
        if not term:
            return queryset, False
        identity = _record_id_in(term)
        if identity is None:
            messages.warning(
                request,
                gettext("Search for an id, or for a whole scope and key."),
            )
            return queryset.none(), False
        return queryset.filter(pk=identity), False

    @admin.display(description=_("request"))
    def shown_request(self, record: IdempotencyRecord) -> str:
        return Truncator(f"{record.method} {record.path}").chars(LONGEST_IN_LIST)

    @admin.display(description=_("status"))
    def shown_status(self, record: IdempotencyRecord) -> int | None:
        return record.response_status

    @admin.display(description=_("scope"))
    def shown_scope(self, record: IdempotencyRecord) -> str:
        return record.scope

    @admin.display(description=_("key"))
    def shown_key(self, record: IdempotencyRecord) -> str:
        """A guest's key is a bearer secret."""
        is_guest = record.scope.startswith(f"{ANONYMOUS}|")
        return f"{record.key[:4]}{MASK}" if is_guest else record.key

    @admin.display(description=_("fingerprint"))
    def shown_fingerprint(self, record: IdempotencyRecord) -> str:
        return _preformatted(record.fingerprint)

    @admin.display(description=_("headers"))
    def shown_headers(self, record: IdempotencyRecord) -> str:
        lines = [
            f"{name}: {MASK if _SENSITIVE.search(name) else value}"
            for name, value in record.response_headers or ()
        ]
        return _preformatted("\n".join(lines))

    @admin.display(description=_("body"))
    def shown_body(self, record: IdempotencyRecord) -> str:
        if record.response_body is None:
            return gettext("Not kept.")
        return _preformatted(_pretty(bytes(record.response_body)))


def _record_id_in(term: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(term)
    except ValueError:
        pass
    scope, _blank, key = term.rpartition(" ")
    parts = _SCOPE.fullmatch(scope)
    if parts is None:
        return None
    principal, method, path = parts.groups()
    return record_id_of(Scope(principal=principal, method=method, path=path), key)


def _preformatted(text: str) -> SafeString:
    return format_html('<pre class="idempotency-record">{}</pre>', text)


def _pretty(body: bytes) -> str:
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except ValueError:
        pass
    try:
        return body.decode()
    except UnicodeDecodeError:
        return gettext("%(count)s bytes that are no text") % {"count": len(body)}
