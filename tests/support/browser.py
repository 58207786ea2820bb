"""A browser, as far as forms go: cookies, hidden fields, redirects that are seen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import unescape
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.test import Client

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as ClientResponse

ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
URLENCODED = "application/x-www-form-urlencoded"

_HIDDEN = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)"[^>]*>')


def _strict_client() -> Client:
    return Client(enforce_csrf_checks=True, headers={"Accept": ACCEPT})


@dataclass(frozen=True)
class Browser:
    """One browser of one visitor; Django's CSRF protection is on."""

    client: Client = field(default_factory=_strict_client)

    def sign_in(self, username: str = "ann") -> Browser:
        self.client.force_login(User.objects.get_or_create(username=username)[0])
        return self

    def visit(self, path: str) -> ClientResponse:
        response = self.client.get(path)
        assert response.status_code == 200, response.status_code
        return response

    def fill_in(self, path: str, **fields: Any) -> dict[str, str]:
        """Open a form and return what pressing its button will send."""
        return {**hidden_fields(self.visit(path)), **fields}

    def press(
        self, path: str, form: Mapping[str, Any], **options: Any
    ) -> ClientResponse:
        return self.client.post(
            path, urlencode(form, doseq=True), content_type=URLENCODED, **options
        )


def hidden_fields(response: ClientResponse) -> dict[str, str]:
    """The hidden fields of the form on a page."""
    return {
        unescape(name): unescape(value)
        for name, value in _HIDDEN.findall(response.content.decode())
    }


def key_in(response: ClientResponse) -> str:
    return hidden_fields(response)["idempotency_key"]
