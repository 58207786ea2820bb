"""What is shown of answers, headers and payloads: all but the secrets."""

from __future__ import annotations

import json
import re
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext

from django_idempotency.core.secrets import is_secret_in_document
from django_idempotency.exceptions import Undecodable
from django_idempotency.models import IdempotencyRecord, ProcessedEvent

MASK = "••••••"

_SENSITIVE = re.compile(
    r"auth|cookie|key|password|secret|session|signature|token", re.I
)


def masked_headers(pairs: Any) -> str:
    """Return a line for each; of what isn't a header, as it is."""
    lines = (
        f"{pair[0]}: {MASK if _SENSITIVE.search(str(pair[0])) else pair[1]}"
        if isinstance(pair, list | tuple) and len(pair) == 2
        else str(pair)
        for pair in pairs
    )
    return printable("\n".join(lines))


def masked(value: Any) -> Any:
    """Return the same JSON with what is called a secret made unreadable."""
    if isinstance(value, dict):
        return {
            name: MASK
            if each is not None and is_secret_in_document(name)
            else masked(each)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [masked(each) for each in value]
    return value


def preformatted(text: str) -> SafeString:
    return format_html('<pre class="idempotency-record">{}</pre>', text)


def as_text(value: Any, indent: int | None = 2) -> str:
    return printable(json.dumps(masked(value), indent=indent, ensure_ascii=False))


def printable(text: str) -> str:
    """Return what a page and a terminal can show: JSON may hold half a surrogate pair."""
    return text.encode("utf-8", "backslashreplace").decode()


def shown_body(row: IdempotencyRecord | ProcessedEvent) -> SafeString | None:
    """Return the answer or payload, or why it can't be read; ``None``: there is none."""
    try:
        body = row.body
    except Undecodable as fault:
        cant = gettext("It can't be read.")
        return format_html('<p class="idempotency-hint">{} {}</p>', cant, str(fault))
    return None if body is None else preformatted(pretty(body))


def pretty(body: bytes) -> str:
    try:
        return as_text(json.loads(body))
    except (RecursionError, ValueError):
        pass
    try:
        return body.decode()
    except UnicodeDecodeError:
        count = len(body)
        return ngettext(
            "%(count)s byte that isn't text", "%(count)s bytes that aren't text", count
        ) % {"count": count}
