"""Responses as they are stored, and stored answers as they are sent again."""

from __future__ import annotations

from functools import cache
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.locale import LocaleMiddleware
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch
from django.utils import translation
from django.utils.module_loading import import_string

from .conf import conf
from .operations import StoredAnswer
from .policies import IdempotencyPolicy

__all__ = ["is_login_redirect", "replay_of", "snapshot"]

OMITTED_HEADER = "Idempotency-Replay"
"""Says ``omitted`` on a replay whose body was not kept."""

# It would promise a coding of bytes that are not there.
ABOUT_THE_BODY = frozenset({"content-encoding"})


def snapshot(response: HttpResponseBase, policy: IdempotencyPolicy) -> StoredAnswer:
    """Return what a repeat of this rendered response will get."""
    denied = _in_lower_case(
        (
            *conf.IDEMPOTENCY_HEADER_DENY_LIST,
            conf.IDEMPOTENCY_REPLAYED_HEADER,
            OMITTED_HEADER,
        )
    )
    headers = [
        # A database's JSON can't hold NUL, and no header may (RFC 9110, 5.5).
        (name.replace("\0", ""), value.replace("\0", ""))
        for name, value in response.headers.items()
        if name.lower() not in denied
    ]
    if "Content-Language" not in response.headers and _language_is_announced():
        headers.append(("Content-Language", translation.get_language() or ""))
    return StoredAnswer(
        status=response.status_code,
        headers=tuple(headers),
        body=_body(response, policy),
    )


@cache
def _in_lower_case(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)


def replay_of(answer: StoredAnswer) -> HttpResponse:
    """Return the stored answer as a response, marked as a replay."""
    response = HttpResponse(answer.body or b"", status=answer.status)
    del response.headers["Content-Type"]  # Django's guess, unless it was stored
    for name, value in answer.headers:
        if answer.body is not None or name.lower() not in ABOUT_THE_BODY:
            response.headers[name] = value
    response.headers[conf.IDEMPOTENCY_REPLAYED_HEADER] = "true"
    if answer.body is None:
        response.headers[OMITTED_HEADER] = "omitted"
    return response


def is_login_redirect(response: HttpResponseBase) -> bool:
    """Whether an access check inside the view sends the caller away to sign in.

    Kept, it would answer the same key after signing in, too.
    """
    location = response.headers.get("Location")
    if location is None or not 300 <= response.status_code < 400:
        return False
    try:
        login = urlsplit(resolve_url(settings.LOGIN_URL))
    except NoReverseMatch:
        return False
    target = urlsplit(location)
    return login.path == target.path and login.netloc in ("", target.netloc)


def _body(response: HttpResponseBase, policy: IdempotencyPolicy) -> bytes | None:
    if response.streaming or not policy.keep_body:
        return None
    body: bytes = response.content  # type: ignore[attr-defined]
    return body if len(body) <= policy.effective_max_body else None


def _language_is_announced() -> bool:
    """Whether LocaleMiddleware will add the active language to the first answer.

    It would add *its* request's language to a replay, whose bytes are in the first's.
    """
    return _has_locale_middleware(tuple(settings.MIDDLEWARE))


@cache
def _has_locale_middleware(paths: tuple[str, ...]) -> bool:
    middleware = [import_string(path) for path in paths]
    return any(
        isinstance(each, type) and issubclass(each, LocaleMiddleware)
        for each in middleware
    )
