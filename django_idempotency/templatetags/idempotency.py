"""``{% load idempotency %}``: the key in a form, made when the page is rendered."""

from __future__ import annotations

from typing import Any

from django import template
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.template import Context, TemplateSyntaxError
from django.utils.html import format_html
from django.utils.safestring import SafeString

from django_idempotency.conf import conf
from django_idempotency.core.keys import derive_form_key, fresh_key
from django_idempotency.http.requests import caller_of

__all__ = ["idempotency_key"]

register = template.Library()


@register.simple_tag(takes_context=True)
def idempotency_key(context: Context, *parts: object) -> SafeString:
    """Return the hidden field with the key of this form.

    ``{% idempotency_key %}`` makes a new key with each rendering: a form that comes
    back with errors is corrected under another one.

    ``{% idempotency_key cart.pk cart.version %}`` derives the key from its arguments
    and the principal, so it is equal on every rendering: for a confirmation page with
    nothing to correct, where a customer who lost the answer reloads the page and
    presses Pay again. Whatever changes the meaning of pressing Pay must be among the
    arguments.
    """
    request = _request(context)
    # A cache must not share a page that contains a key. Asking for the token makes
    # Django's CSRF middleware mark the page as varying by cookie.
    get_token(request)
    key = _derived_key(request, parts) if parts else fresh_key()
    return format_html(
        '<input type="hidden" name="{}" value="{}">', conf.IDEMPOTENCY_FIELD, key
    )


def _derived_key(request: HttpRequest, parts: tuple[object, ...]) -> str:
    if any(part is None or part == "" for part in parts):
        raise TemplateSyntaxError(
            "An argument of {% idempotency_key %} is empty, probably a misspelt "
            "variable: every form would get the same key."
        )
    caller = caller_of(request)
    # All guests are one principal; the secret of the CSRF token tells their browsers
    # apart.
    browser = request.META["CSRF_COOKIE"] if caller.is_guest else ""
    return derive_form_key(caller.principal, browser, *(str(part) for part in parts))


def _request(context: Context) -> HttpRequest:
    request: Any = context.get("request")
    if not isinstance(request, HttpRequest):
        raise ImproperlyConfigured(
            "{% idempotency_key %} needs the request: render the template with "
            "render(request, …), and in TEMPLATES add\n\n"
            '    "django.template.context_processors.request"'
        )
    return request
