"""One box for both lists: what somebody has of a payment leads to its page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django import VERSION
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext

from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.stories.event import story_of_event
from django_idempotency.stories.finding import HEAVY, MOST, Search
from django_idempotency.stories.operation import story_of_record
from django_idempotency.stories.related import Related, links_of, principal_of
from django_idempotency.stories.telling import Story, moment

from .belongs import Reader
from .needed import age_of, names_of, who_is
from .read_only import ReadOnlyAdmin

TEMPLATE = "django_idempotency/find.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One row of what was found."""

    story: Story
    more: str
    """What tells it from others that look the same."""
    since: datetime
    url: str

    @property
    def age(self) -> str:
        return age_of(self.since)


class FindingAdmin(ReadOnlyAdmin):
    """Has a page that looks in both tables, each as far as the reader may view it."""

    def get_urls(self) -> list[URLPattern]:
        meta = self.opts
        view = self.admin_site.admin_view(self.find_view)
        name = f"{meta.app_label}_{meta.model_name}_find"
        return [path("find/", view, name=name), *super().get_urls()]

    def find_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        reader = Reader(request, self.admin_site)
        may_see_users = reader.may_see(get_user_model())
        term = request.GET.get("q", "").strip()
        search = Search(term, may_see_users=may_see_users)
        found = [*self._found(search, reader, may_see_users)] if term else []
        if len(found) == 1:
            return HttpResponseRedirect(found[0].url)
        found.sort(key=lambda each: each.since, reverse=True)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "has_list_of_breadcrumbs": VERSION >= (6, 1),
            "title": gettext("Find a payment"),
            "term": term,
            "found": found,
            "is_all": len(found) < MOST,
            "why_not": self.why_nothing(search) if term and not found else "",
        }
        return TemplateResponse(request, TEMPLATE, context)

    def _found(
        self, search: Search, reader: Reader, may_see_users: bool
    ) -> Iterator[Found]:
        now = datetime.now(UTC)
        events = self._rows(ProcessedEvent, search.named_events, reader)
        records = self._rows(IdempotencyRecord, search.named_records, reader)
        links = links_of([*events, *records])
        for event in events:
            yield Found(
                story=story_of_event(event, links[event.pk], now=now),
                more=event.event_id,
                since=moment(event.received_at) or now,
                url=reader.page_of(ProcessedEvent, event.pk),
            )
        principals = {principal_of(record) for record in records}
        names = names_of(principals) if may_see_users else {}
        for record in records:
            of_it = Related(links=links[record.pk], events=[], records=[])
            who = who_is(record, names)
            yield Found(
                story=story_of_record(record, of_it, who=who, now=now),
                more=record.reference,
                since=moment(record.created_at) or now,
                url=reader.page_of(IdempotencyRecord, record.pk),
            )

    def _rows(self, model: type[Model], ids: set[Any], reader: Reader) -> list[Any]:
        """Return the rows as the model's own admin shows them to this person."""
        if not ids or not reader.may_see(model):
            return []
        rows = self.admin_site.get_model_admin(model).get_queryset(reader.request)
        names = {field.name for field in model._meta.get_fields()}
        light = rows.defer(None).defer(*names.intersection(HEAVY))
        return list(light.filter(pk__in=ids)[:MOST])
