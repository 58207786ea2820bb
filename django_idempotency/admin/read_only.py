"""What both admins share: read-only rows, found by their primary key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from django.apps import apps
from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise as StrPromise

    _Paginator = Paginator[Any]
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _Paginator = Paginator
    if apps.is_installed("unfold"):
        from unfold.admin import ModelAdmin as _ModelAdmin
    else:
        _ModelAdmin = admin.ModelAdmin

MOST_COUNTED = 10_000
"""A list shows at most this many rows: counting a whole large table takes long."""

LONGEST_IN_LIST = 40
"""Longer names are cut in a list, to leave room for the other columns."""

M = TypeVar("M", bound=Model)


class BoundedPaginator(_Paginator):
    """Stops counting at MOST_COUNTED."""

    @cached_property
    def count(self) -> int:
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows.order_by()[:MOST_COUNTED].count()


class ReadOnlyAdmin(_ModelAdmin):
    """Nothing can be added or changed; deleting takes the model's own permission."""

    # The only indexed column; ordering by any other would sort the whole table.
    ordering = ("-expires_at",)
    sortable_by = ("expires_at",)
    search_fields = ("pk",)
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each facet would count the whole table
    search_refusal: str | StrPromise = ""
    """The message for a search term that can't be a primary key."""

    class Media:
        css = {"all": ("django_idempotency/admin.css",)}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(
        self, request: HttpRequest, obj: Model | None = None
    ) -> bool:
        return False

    def primary_key_in(self, term: str) -> Any:
        """Return the primary key that the search term stands for, if it does."""
        raise NotImplementedError

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[M], search_term: str
    ) -> tuple[QuerySet[M], bool]:
        """Find by primary key only, and warn about a term that can't be one."""
        term = search_term.strip()
        if not term:
            return queryset, False
        key = self.primary_key_in(term)
        if key is None:
            messages.warning(request, self.search_refusal)
            return queryset.none(), False
        return queryset.filter(pk=key), False
