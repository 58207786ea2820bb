"""The page of one row: its story, what it belongs to, and the rest folded away."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django import VERSION
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from django_idempotency.stories.telling import Story, day, zone

from .belongs import Belonging, Reader
from .find import FindingAdmin
from .lanes import drawing_of

TEMPLATE = "django_idempotency/story.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A button to the page on which something is decided."""

    label: str
    url: str
    is_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the template draws."""

    story: Story
    belongs: list[Belonging]
    technical: list[tuple[str, str]]
    folded: list[tuple[str, SafeString]]
    related: list[Belonging]
    choices: list[Choice]
    asides: list[Choice] = field(default_factory=list)
    """What nobody waits for, offered below the story."""
    no_relation: str = ""


class StoryAdmin(FindingAdmin):
    """Tells the story of a row in the place of Django's form."""

    def page_of(self, request: HttpRequest, row: Any, reader: Reader) -> Page:
        raise NotImplementedError

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if request.method not in ("GET", "HEAD") or not self.has_view_permission(
            request
        ):
            raise PermissionDenied
        row = self.whole_row(request, object_id)
        if row is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined,no-any-return]
        page = self.page_of(request, row, Reader(request, self.admin_site))
        drawing = drawing_of(page.story.rows)
        days = [each.at for each in page.story.rows if each.at is not None]
        context = {
            **self.page_context(request, row, page.story.heading),
            "page": page,
            "story": page.story,
            "drawing": drawing,
            "zone": zone(),
            "day": day(min(days)) if days else "",
            "delete_url": self.url_of("delete", row)
            if self.has_delete_permission(request, row)
            else "",
            "history_url": self.url_of("history", row),
            **(extra_context or {}),
        }
        return TemplateResponse(request, TEMPLATE, context)

    def whole_row(self, request: HttpRequest, object_id: str) -> Any:
        """Return the row with all its columns; ``None``: there is none."""
        try:
            pk = self.opts.pk.to_python(unquote(object_id))
        except ValidationError:
            return None
        return self.get_queryset(request).defer(None).filter(pk=pk).first()

    def page_context(
        self, request: HttpRequest, row: Model, title: str
    ) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "original": row,
            "has_list_of_breadcrumbs": VERSION >= (6, 1),
            "list_url": self.url_of("changelist"),
            "media": self.media,
            "title": title,
        }

    def url_of(self, what: str, row: Model | None = None) -> str:
        meta = self.opts
        name = f"{self.admin_site.name}:{meta.app_label}_{meta.model_name}_{what}"
        return reverse(name, args=[] if row is None else [row.pk])


def known(*pairs: tuple[str, Any]) -> list[tuple[str, str]]:
    """Return those that have a value."""
    return [(name, str(value)) for name, value in pairs if value not in (None, "")]


def not_kept() -> str:
    return gettext("Not kept.")
