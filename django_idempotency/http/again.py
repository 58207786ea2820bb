"""What a page holds of a form, so that people can send it again from there.

Note [What a page may hold of a form]
The fields go back to the browser that has sent them, into a page, and nowhere else: none
is stored. But a page is kept, in the history and on the disk, and shown to who looks over
a shoulder, where the input of a password was not. So a form with a secret has no such
page; nor has one with files, which no page can hold. Then people are told to wait a
little, and to send the form itself again.
"""

from __future__ import annotations

from collections.abc import Container

from django.http import HttpRequest

from django_idempotency.core.secrets import is_secret_in_form

from .bodies import FORM, MULTIPART, form_fields

OF_ONE_PAGE = ("csrfmiddlewaretoken",)
"""The page has its own."""


def fields_to_send_again(
    request: HttpRequest, **ours: str
) -> list[tuple[str, str]] | None:
    """Return what a form on a page has to send, with `ours`; ``None``: it must not."""
    if request.method != "POST" or request.content_type not in (FORM, MULTIPART):
        return None
    if (fields := form_fields(request)) is None:
        return None
    pairs = [
        (name, value)
        for name, values in fields.items()
        if name not in (*OF_ONE_PAGE, *ours)
        for value in values
    ]
    if any(is_secret_in_form(name, value) for name, value in pairs):
        return None
    if _is_sensitive(request, fields):
        return None
    return [*pairs, *ours.items()]


def _is_sensitive(request: HttpRequest, names: Container[str]) -> bool:
    """Whether the view's @sensitive_post_parameters names one of them, or all."""
    named = getattr(request, "sensitive_post_parameters", ())
    return named == "__ALL__" or any(each in names for each in named)
