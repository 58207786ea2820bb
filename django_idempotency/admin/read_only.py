"""What both admins share: read-only rows, found by their primary key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from django.apps import apps
from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.core.paginator import Paginator
from django.db import router
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_idempotency.stories.finding import Search

from .belongs import Reader
from .filters import MOST_COUNTED

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

LONGEST_IN_LIST = 40
"""Longer names are cut in a list, to leave room for the other columns."""

M = TypeVar("M", bound=Model)


class BoundedPaginator(_Paginator):
    """Stops counting at MOST_COUNTED."""

    @cached_property
    def count(self) -> int:
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        # In its order: else the planner might read the table itself.
        return rows[:MOST_COUNTED].count()


class ReadOnlyAdmin(_ModelAdmin):
    """Nothing can be added or changed; deleting takes the model's own permission."""

    # The only indexed column; ordering by any other would sort the whole table.
    ordering = ("-expires_at",)
    sortable_by = ("expires_at",)
    search_fields = ("pk",)
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each facet would count the whole table
    search_refusal: StrPromise = _(
        "Nothing has exactly this as its id, reference, key or name. Parts of these are "
        "not looked for, nor customers unless about() has named them: no index could "
        "find them."
    )

    class Media:
        css = {"all": ("django_idempotency/admin.css",)}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(
        self, request: HttpRequest, obj: Model | None = None
    ) -> bool:
        return False

    def found_by(self, search: Search) -> set[Any]:
        """Return the primary keys of what is found here."""
        raise NotImplementedError

    def found_elsewhere(self, search: Search) -> tuple[type[Model], set[Any]]:
        """Return the other table, and what is found there."""
        raise NotImplementedError

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[M], search_term: str
    ) -> tuple[QuerySet[M], bool]:
        """Find by index only; if nothing is found, say what is looked for."""
        term = search_term.strip()
        if not term:
            return queryset, False
        reader = Reader(request, self.admin_site)
        search = Search(term, may_see_users=reader.may_see(get_user_model()))
        found = queryset.filter(pk__in=self.found_by(search))
        if not found.order_by().exists():
            messages.warning(request, self._why_not_found(search, reader))
        return found, False

    def _why_not_found(self, search: Search, reader: Reader) -> str:
        model, ids = self.found_elsewhere(search)
        rows: QuerySet[Any] = QuerySet(model, using=router.db_for_read(model))
        if reader.may_see(model) and rows.filter(pk__in=ids).exists():
            other = format_html(
                "<a href='{}?{}'>{}</a>",
                reader.list_of(model),
                urlencode({"q": search.term}),
                model._meta.verbose_name_plural,
            )
            return format_html(gettext("Nothing here, but there is under {}"), other)
        return self.why_nothing(search)

    def why_nothing(self, search: Search) -> str:
        if search.customer is not None:
            return gettext(
                "%(name)s is a customer, but operations are found by customer only where "
                "their code says request.idempotency.about(request.user)."
            ) % {"name": search.term}
        return str(self.search_refusal)
