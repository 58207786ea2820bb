"""Whoever looks at the admin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape

from django.contrib.auth.models import Permission, User
from django.db.models import Model
from django.test import Client


def colleague(*permissions: str, of: str = "idempotencyrecord") -> Client:
    """Somebody of the staff, named "colleague", who may do only this with one model."""
    user, _ = User.objects.get_or_create(username="colleague", is_staff=True)
    codenames = [f"{each}_{of}" for each in permissions]
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


@dataclass(frozen=True)
class Form:
    """The page that an action of the admin shows before it acts, as its browser has it."""

    client: Client
    url: str
    fields: dict[str, list[str]]

    @classmethod
    def shown(cls, client: Client, url: str, action: str, row: Model) -> Form:
        data = {"action": action, "_selected_action": str(row.pk)}
        return cls._on(client, url, client.post(url, data).content.decode())

    @classmethod
    def on_page(cls, client: Client, url: str) -> Form:
        """The page behind a button of a row's own page."""
        return cls._on(client, url, client.get(url).content.decode())

    @classmethod
    def _on(cls, client: Client, url: str, page: str) -> Form:
        form = page[page.index('id="idempotency-act"') :].partition("</form>")[0]
        fields: dict[str, list[str]] = {}
        for name, value in re.findall(
            r'<input type="hidden" name="([^"]*)" value="([^"]*)"', form
        ):
            fields.setdefault(name, []).append(unescape(value))
        return cls(client, url, fields)

    def send(self, **filled_in: str) -> str:
        """Press the button; return the page that follows."""
        data = {**self.fields, **filled_in}
        answer = self.client.post(self.url, data, follow=True)
        return unescape(answer.content.decode())
