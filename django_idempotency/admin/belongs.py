"""What a row belongs to: found by indexes, and linked as far as the reader may go."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.contrib.admin import AdminSite
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext

from django_idempotency.core.links import LinkKind
from django_idempotency.models import IdempotencyRecord, OperationLink, ProcessedEvent
from django_idempotency.stories.related import is_guests, principal_of

_OBJECT = re.compile(r"(\w+)\.(\w+):(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Belonging:
    """One line of what a row belongs to."""

    name: str
    text: str
    url: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who looks, and what this person may be shown."""

    request: HttpRequest
    site: AdminSite

    def may_see(self, model: type[Model]) -> bool:
        if not self.site.is_registered(model):
            return False
        shown = self.site.get_model_admin(model)
        return shown.has_view_permission(self.request)

    def may_name(self, model: type[Model]) -> bool:
        """Users have their names, and their mail's addresses, for who may look at them."""
        return model is not get_user_model() or self.may_see(model)

    def page_of(self, model: type[Model], pk: object) -> str:
        """Return the address of an object's page; nothing if it isn't for this reader."""
        if not self.may_see(model):
            return ""
        meta = model._meta
        name = f"{self.site.name}:{meta.app_label}_{meta.model_name}_change"
        return reverse(name, args=[pk])

    def list_of(self, model: type[Model]) -> str:
        meta = model._meta
        return reverse(
            f"{self.site.name}:{meta.app_label}_{meta.model_name}_changelist"
        )

    def page_of_value(self, value: str) -> str:
        """Return the same for a link's value, if it names an object."""
        found = model_and_key(value)
        return "" if found is None else self.page_of(*found)


def model_and_key(value: str) -> tuple[type[Model], str] | None:
    """Return what ``shop.order:7`` names, or ``shop.User:7``."""
    match = _OBJECT.fullmatch(value)
    if match is None:
        return None
    try:
        return apps.get_model(match[1], match[2]), match[3]
    except LookupError:
        return None


def customer_of(record: IdempotencyRecord, reader: Reader) -> Belonging:
    """Return whose operation it is; by name only to who may look at users."""
    principal, name = principal_of(record), gettext("Customer")
    if is_guests(record):
        return Belonging(name=name, text=gettext("a guest"))
    user_model: type[Any] = get_user_model()
    found = model_and_key(principal)
    if found is None or found[0] is not user_model or not reader.may_name(user_model):
        return Belonging(name=name, text=principal)
    try:
        user: Any = user_model._base_manager.filter(pk=found[1]).first()
    except (ValidationError, ValueError):
        user = None
    if user is None:
        return Belonging(name=name, text=gettext("%s (gone)") % principal)
    return Belonging(
        name=name, text=user.get_username(), url=reader.page_of(user_model, user.pk)
    )


def objects_in(links: Iterable[OperationLink], reader: Reader) -> list[Belonging]:
    return [
        _object(link, reader)
        for link in links
        if link.kind in (LinkKind.OBJECT, LinkKind.REFERENCE)
    ]


def _object(link: OperationLink, reader: Reader) -> Belonging:
    found = model_and_key(link.value) if link.kind == LinkKind.OBJECT else None
    if found is not None:
        name = str(found[0]._meta.verbose_name).capitalize()
    elif link.kind == LinkKind.OBJECT:
        name = gettext("About")
    else:
        name = gettext("Reference")
    has_label = found is not None and link.label and reader.may_name(found[0])
    return Belonging(
        name=name,
        text=link.label if has_label else link.value,
        url=reader.page_of_value(link.value) if found is not None else "",
        note=link.amount,
    )


def keys_in(links: Iterable[OperationLink]) -> list[Belonging]:
    return [
        Belonging(
            name=gettext("Key for %(step)s") % {"step": link.label or "?"},
            text=link.value,
        )
        for link in links
        if link.kind == LinkKind.CALL
    ]


def related_event(event: ProcessedEvent, reader: Reader) -> Belonging:
    return Belonging(
        name=gettext("Webhook event"),
        text=event.event_type or event.event_id,
        url=reader.page_of(ProcessedEvent, event.pk),
        note=f"{event.event_id}, {event.get_state_display()}",
    )


def related_record(record: IdempotencyRecord, reader: Reader) -> Belonging:
    return Belonging(
        name=gettext("Operation"),
        text=f"{record.method} {record.path}",
        url=reader.page_of(IdempotencyRecord, record.pk),
        note=f"{record.reference}, {record.get_state_display()}",
    )
