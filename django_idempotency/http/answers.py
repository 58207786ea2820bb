"""Responses as they are stored, and stored answers as they are sent again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from django.conf import settings
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.core.exceptions import DisallowedRedirect
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponsePermanentRedirect,
    HttpResponseRedirect,
)
from django.http.response import HttpResponseBase
from django.middleware.locale import LocaleMiddleware
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch
from django.utils import translation

from django_idempotency.conf import conf
from django_idempotency.core.operations import StoredAnswer
from django_idempotency.policies import IdempotencyPolicy

from .endings import ENDED_HEADER, EXPIRES_HEADER, LOCATION_HEADER
from .middleware import has_middleware

OMITTED_HEADER = "Idempotency-Replay"
"""This header is ``omitted`` on a replay whose body was not kept."""

REDIRECTS = {
    **dict.fromkeys((301, 308), HttpResponsePermanentRedirect),
    **dict.fromkeys((302, 303, 307), HttpResponseRedirect),
}

# Cookies belong to one browser, whatever the project's list says.
NEVER_REPLAYED = frozenset({"set-cookie"})
# It would describe the coding of a body that is not there.
NEVER_WITHOUT_BODY = NEVER_REPLAYED | {"content-encoding"}


def _is_printable(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def _is_policy(value: Any) -> bool:
    return value is None or isinstance(value, dict)


FRAMEWORKS_OWN = "exception"

# What the view, or a decorator inside of ours, leaves on a response for middleware and
# the server to read, with what makes a stored value good. Other attributes belong to one
# exchange: who has logged it, what is closed with it, which handler sends it.
ATTRIBUTES: dict[str, Callable[[Any], bool]] = {
    "_reason_phrase": _is_printable,
    "_charset": _is_printable,
    "xframe_options_exempt": lambda value: value is True,
    "_csp_config": _is_policy,  # Django 6.0
    "_csp_ro_config": _is_policy,
    # REST framework's, on each response of its own class and on no other.
    FRAMEWORKS_OWN: lambda value: isinstance(value, bool),
}
ABSENT = object()
NONCE = "csp_nonce"
"""The extra with the nonce in the stored body, which the policy's header must name."""


def snapshot(
    response: HttpResponseBase, policy: IdempotencyPolicy, request: HttpRequest
) -> StoredAnswer:
    """Return what a repeat of this rendered response will get."""
    headers = [
        # JSON in a database can't contain NUL, and headers must not (RFC 9110, 5.5).
        (name.replace("\0", ""), value.replace("\0", ""))
        for name, value in without_denied(response.headers.items())
    ]
    if _language_is_announced() and "Content-Language" not in response.headers:
        headers.append(("Content-Language", translation.get_language() or ""))
    return StoredAnswer(
        status=response.status_code,
        headers=tuple(headers),
        body=_body(response, policy),
        extras=_extras(response, request),
    )


def without_denied(headers: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Leave out what is never replayed."""
    denied = _in_lower_case(
        (
            *NEVER_REPLAYED,
            *conf.IDEMPOTENCY_HEADER_DENY_LIST,
            conf.IDEMPOTENCY_REPLAYED_HEADER,
            OMITTED_HEADER,
            ENDED_HEADER,
            EXPIRES_HEADER,
            LOCATION_HEADER,
        )
    )
    return (each for each in headers if each[0].lower() not in denied)


def _extras(response: HttpResponseBase, request: HttpRequest) -> dict[str, str]:
    extras = {}
    for name, is_good in ATTRIBUTES.items():
        value = getattr(response, name, ABSENT)
        if value is ABSENT or not is_good(value):
            continue
        if (text := _as_json(value)) is not None:
            extras[name] = text
    if nonce := getattr(request, "_csp_nonce", None):  # true once it has been used
        extras[NONCE] = str(nonce)
    return extras


def _as_json(value: Any) -> str | None:
    """Return it as text, in which databases keep the order of a policy's directives.

    ``None``: JSON can't represent it.
    """
    if not isinstance(value, dict):
        return json.dumps(value)
    try:
        # A policy may hold sets, which Django's middleware sorts as well.
        return json.dumps(value, default=sorted)
    except (TypeError, ValueError):
        return None


def _give_extras(
    response: HttpResponse, request: HttpRequest, extras: dict[str, str]
) -> None:
    """Leave on response and request what the first answer had left there."""
    for name, is_good in ATTRIBUTES.items():
        if name in extras:
            with suppress(ValueError):  # was written by hand
                value = json.loads(extras[name])
                if is_good(value):
                    setattr(response, name, value)
    nonce = extras.get(NONCE, "")
    if nonce.isprintable() and nonce and hasattr(request, "_csp_nonce"):
        request._csp_nonce = nonce


@cache
def _in_lower_case(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)


def replay_of(
    answer: StoredAnswer,
    request: HttpRequest,
    kind: type[HttpResponse] = HttpResponse,
) -> HttpResponse:
    """Return the stored answer as a response, marked as a replay.

    A redirect is one, for middleware and tests that ask for its `url`; any other answer
    is of the `kind` that the framework's views make.
    """
    response = _redirect_of(answer) or kind(status=answer.status)
    response.content = answer.body or b""
    left_out = NEVER_REPLAYED if answer.body is not None else NEVER_WITHOUT_BODY
    del response.headers["Content-Type"]  # Django's guess, unless it was stored
    for name, value in answer.headers:
        if name.lower() not in left_out:
            response.headers[name] = value
    response.headers[conf.IDEMPOTENCY_REPLAYED_HEADER] = "true"
    if answer.body is None:
        response.headers[OMITTED_HEADER] = "omitted"
    if answer.extras:
        _give_extras(response, request, answer.extras)
    return response


def type_of(answer: StoredAnswer) -> str | None:
    """Return the media type of the stored body; ``None``: it has none."""
    for name, value in answer.headers:
        if name.lower() == "content-type":
            return value.partition(";")[0].strip().lower()
    return None


def _redirect_of(answer: StoredAnswer) -> HttpResponse | None:
    if answer.status not in REDIRECTS:
        return None
    locations = [value for name, value in answer.headers if name == "Location"]
    if locations:
        with suppress(DisallowedRedirect):  # a scheme that the view has allowed itself
            return REDIRECTS[answer.status](locations[-1], status=answer.status)
    return None


def is_sent_to_sign_in(response: HttpResponseBase, request: HttpRequest) -> bool:
    """Whether an access check inside the view has asked the caller to sign in first.

    Its evidence is a redirect to exactly LOGIN_URL whose query leads back to this path;
    if it were replayed, the caller would be asked again after having signed in. Any other
    redirect there, as after "change password and log out", is an answer like others.
    """
    if not 300 <= response.status_code < 400:
        return False
    location = response.headers.get("Location")
    if location is None:
        return False
    target = urlsplit(location)
    back = parse_qs(target.query).get(REDIRECT_FIELD_NAME, [""])[-1]
    if unquote(urlsplit(back).path) != request.path:
        return False
    try:
        login = urlsplit(resolve_url(settings.LOGIN_URL or ""))
    except NoReverseMatch:
        return False
    host = login.netloc or (request.get_host() if target.netloc else "")
    return target.path == login.path and target.netloc in ("", host)


def _body(response: HttpResponseBase, policy: IdempotencyPolicy) -> bytes | None:
    if response.streaming or not policy.keep_body:
        return None
    body: bytes = response.content  # type: ignore[attr-defined]
    return body if len(body) <= policy.effective_max_body else None


def _language_is_announced() -> bool:
    """Whether LocaleMiddleware will add the active language to this answer.

    To a replay it would add the language of the repeat, not that of the stored body.
    """
    return has_middleware(LocaleMiddleware)
