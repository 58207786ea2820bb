"""``{% load idempotency %}``: the key in a form, made when the page is rendered."""

from __future__ import annotations

from typing import Any

from django import template
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.template import Context, TemplateSyntaxError
from django.utils.html import format_html
from django.utils.safestring import SafeString

from django_idempotency.conf import conf
from django_idempotency.core.keys import derived_page_key, fresh_key, fresh_page_key
from django_idempotency.http.pages import browser_of_page, note_key_in_page
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

    A guest can send the key only from the browser that got the page, which a cache may
    have copied. A page with a fresh key is kept by no cache, if its view is decorated.
    """
    request = _request(context)
    note_key_in_page(context["request"], is_fresh=not parts)
    browser = browser_of_page(request)
    key = _derived_key(request, browser, parts) if parts else _fresh_key(browser)
    return format_html(
        # Browsers put back what a field held before the page was loaded again, also into
        # hidden ones: the new page would have the old key.
        '<input type="hidden" name="{}" value="{}" autocomplete="off">',
        conf.IDEMPOTENCY_FIELD,
        key,
    )


def _fresh_key(browser: str | None) -> str:
    return fresh_key() if browser is None else fresh_page_key(browser)


def _derived_key(
    request: HttpRequest, browser: str | None, parts: tuple[object, ...]
) -> str:
    if any(part is None or part == "" for part in parts):
        raise TemplateSyntaxError(
            "An argument of {% idempotency_key %} is empty, probably a misspelt "
            "variable: every form would get the same key."
        )
    caller = caller_of(request)
    texts = [str(part) for part in parts]
    if not caller.is_guest:
        return derived_page_key(caller.principal, caller.principal, *texts)
    if browser is None:
        return fresh_key()
    # All guests are one principal; the secret of the CSRF token tells their browsers
    # apart.
    return derived_page_key(browser, caller.principal, browser, *texts)


def _request(context: Context) -> HttpRequest:
    request: Any = context.get("request")
    # REST framework's renderers give their templates its own request.
    request = getattr(request, "_request", request)
    if not isinstance(request, HttpRequest):
        raise ImproperlyConfigured(
            "{% idempotency_key %} needs the request: render the template with "
            "render(request, …), and in TEMPLATES add\n\n"
            '    "django.template.context_processors.request"'
        )
    return request
