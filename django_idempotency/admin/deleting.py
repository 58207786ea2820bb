"""Deleting from the admin: what follows is said first, and what is open is refused.

To delete a row is to forget that the work is done.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext

from .pages import StoryAdmin


class GuardedAdmin(StoryAdmin):
    """Deletes only what is over."""

    undeletable: frozenset[str] = frozenset()
    """The states in which deleting a row could let its work be done twice at once."""
    consequence: Any = ""
    """What follows from deleting, for people."""

    def why_not_deleted(self, row: Any) -> str:
        return gettext(
            "%(row)s can't be deleted: while it is open, that could let it be done a "
            "second time. Decide about it, or let it end."
        ) % {"row": row}

    def delete_view(
        self,
        request: HttpRequest,
        object_id: str,
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        row = self.whole_row(request, object_id)
        if row is not None and row.state in self.undeletable:
            if not self.has_delete_permission(request, row):
                raise PermissionDenied
            self.message_user(request, self.why_not_deleted(row), messages.ERROR)
            return HttpResponseRedirect(self.url_of("change", row))
        return super().delete_view(request, object_id, extra_context)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Say what follows, and name those that are open as what stands in the way."""
        shown, counts, lacking, protected = super().get_deleted_objects(objs, request)
        opened = [row for row in objs if row.state in self.undeletable]
        sentences = [self.why_not_deleted(row) for row in opened]
        if "post" not in request.POST and not sentences and not lacking:
            self.message_user(request, self.consequence, messages.WARNING)
        return shown, counts, lacking, [*protected, *sentences]

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete the row unless it has been taken up since the page was shown."""
        same = self.model._base_manager.using(obj._state.db).filter(pk=obj.pk)
        deleted, _by_model = same.exclude(state__in=self.undeletable).delete()
        if not deleted:
            raise PermissionDenied(self.why_not_deleted(obj))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        ids = list(queryset.values_list("pk", flat=True))
        rows = self.model._base_manager.using(queryset.db).filter(pk__in=ids)
        rows.exclude(state__in=self.undeletable).delete()
