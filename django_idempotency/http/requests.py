"""From a request to the operation that it asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from django_idempotency.conf import conf
from django_idempotency.core.fingerprints import (
    UNKNOWN_PAYLOAD,
    Fingerprint,
    canonical_query,
    fingerprint_of,
)
from django_idempotency.core.history import LONGEST_TRACE
from django_idempotency.core.keys import (
    is_browsers_own,
    is_owned_by,
    is_page_key,
    parse_key,
    require_unguessable,
)
from django_idempotency.core.operations import Operation, Scope
from django_idempotency.engine.idempotency import Idempotency
from django_idempotency.exceptions import InvalidKey, KeyOfAnother
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.store.records import record_alias

from .bodies import (
    FORM,
    MULTIPART,
    canonical_payload,
    form_field,
    hold_body,
    media_type,
    size_of,
)
from .duplicates import CONFIRM_FIELD, intent_of
from .notes import notes_of
from .pages import browser_of_post

ANONYMOUS = "anonymous"


class IdempotentRequest(HttpRequest):
    """Annotation for the request that a decorated view gets."""

    if TYPE_CHECKING:
        idempotency: Idempotency


def key_of(request: HttpRequest, policy: IdempotencyPolicy) -> str | None:
    """Return the client's key, ``None`` if it sent none.

    A number that the browser has put into the header by itself is overruled by the key
    of a form, and counts as none from a guest who needs no key.

    Raises:
        InvalidKey: if it can't be used, or header and form field differ.
    """
    header, field = _key_in_header(request), _key_in_form(request)
    if header is not None and is_browsers_own(header):
        is_wanted = policy.key_required or not caller_of(request).is_guest
        if field is not None or not is_wanted:
            header = None
    sent = {parse_key(raw) for raw in (header, field) if raw is not None}
    if len(sent) > 1:
        raise InvalidKey(_("The key in the header and the key in the form differ."))
    return sent.pop() if sent else None


class Identified(str):
    """The principal of a caller who is known, although no user is signed in.

    For an IDEMPOTENCY_PRINCIPAL hook that recognises callers by themselves, as by an API
    key. A plain string says *where* a caller is, such as the tenant, and not who: if
    nobody is signed in, it is a guest's.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose keys these are."""

    principal: str
    is_guest: bool
    """Nobody knows who it is: all guests share the principal, so their keys are secrets."""


def principal_of(request: HttpRequest) -> str:
    """Return whose keys these are: the signed-in user, or all guests together.

    On an operation of django-ninja, also whom its authentication knows by itself. A hook in IDEMPOTENCY_PRINCIPAL may call it for requests that need nothing else.

    Raises:
        ImproperlyConfigured: if a signed-in user has no primary key.
    """
    return _name_of(_signed_in_user(request), request)


def _name_of(user: Any, request: HttpRequest) -> str:
    return _known_as(request) or ANONYMOUS if user is None else name_of_user(user)


def name_of_user(user: Any) -> str:
    """Return what tells a user, or another instance of a model, from all others.

    Raises:
        ImproperlyConfigured: it has no primary key.
    """
    identity = getattr(user, "pk", None)
    if identity is None or identity == "":
        raise ImproperlyConfigured(
            f"A signed-in {type(user).__name__} without a pk can't be told apart from "
            "others. Name your principals: IDEMPOTENCY_PRINCIPAL = "
            '"yourproject.idempotency.principal"  # a function: request -> str'
        )
    meta = getattr(user, "_meta", None)
    if meta is None:
        kind = f"{type(user).__module__}.{type(user).__qualname__}"
    else:
        kind = meta.concrete_model._meta.label
    return f"{kind}:{identity}"


def _known_as(request: HttpRequest) -> str | None:
    """Return the name of a caller whom a framework knows by itself."""
    known_as = notes_of(request).known_as
    return None if known_as is None else known_as(request)


def _signed_in_user(request: HttpRequest) -> Any:
    user: Any = getattr(request, "user", None)
    return None if user is None or not user.is_authenticated else user


def caller_of(request: HttpRequest) -> Caller:
    """Return the caller, named by the project's hook, else by `principal_of`.

    Who a guest is, is decided by the caller and never by the hook's text; a guest's
    principal always ends with ``anonymous``.

    Raises:
        ImproperlyConfigured: if the hook doesn't return a non-empty string.
    """
    hook, user = conf.IDEMPOTENCY_PRINCIPAL, _signed_in_user(request)
    principal = (
        _name_of(user, request)
        if hook is None
        else _told_by(
            "IDEMPOTENCY_PRINCIPAL", hook, request, "two callers without a name"
        )
    )
    if user is not None or isinstance(principal, Identified):
        return Caller(str(principal), is_guest=False)
    if (known := _known_as(request)) is not None:
        # The hook may know nothing of it, and would give one name to several callers.
        if not principal.endswith(known):
            principal = f"{principal}|{known}"
        return Caller(principal, is_guest=False)
    if not principal.endswith(ANONYMOUS):
        principal = f"{principal}|{ANONYMOUS}"
    return Caller(principal, is_guest=True)


def path_of(request: HttpRequest) -> str:
    """Return where the caller wants something done, by the project's hook if any.

    Raises:
        ImproperlyConfigured: if the hook doesn't return a non-empty string.
    """
    hook = conf.IDEMPOTENCY_PATH
    if hook is None:
        return request.path
    return _told_by("IDEMPOTENCY_PATH", hook, request, "addresses without a name")


def _told_by(setting: str, hook: str, request: HttpRequest, who: str) -> str:
    told = import_string(hook)(request)
    if not isinstance(told, str) or not told:
        raise ImproperlyConfigured(
            f"{setting} = {hook!r} returned {type(told).__name__}; it must return a "
            f"non-empty str, or {who} would share their keys."
        )
    return told


def is_refused_guest(request: HttpRequest) -> bool:
    """Whether the project takes no keys from guests, and this is one."""
    return conf.IDEMPOTENCY_ANONYMOUS == "refuse" and caller_of(request).is_guest


def operation_of(
    request: HttpRequest,
    key: str,
    policy: IdempotencyPolicy,
    *,
    view_request: Any,
) -> Operation:
    """Return the operation; reads the body, which stays readable for the view.

    `view_request` is what the view gets: `request`, or a framework's wrapper of it.

    Raises:
        InvalidKey: if the caller is a guest and the key is guessable.
        KeyOfAnother: if the caller is a guest and the key another one's.
    """
    fingerprint = partial(_fingerprint, request, policy, view_request)
    return _operation(request, key, policy, fingerprint, has_intent=True)


def operation_asked_about(
    request: HttpRequest, policy: IdempotencyPolicy
) -> Operation | None:
    """Return the operation that a request without its payload asks about.

    ``None``: it has no key, which can come in the header alone.

    Raises:
        InvalidKey: if the key can't be used, or is a guest's and guessable.
        KeyOfAnother: if the caller is a guest and the key another one's.
    """
    raw = _key_in_header(request)
    if raw is None:
        return None
    return _operation(request, parse_key(raw), policy, lambda: UNKNOWN_PAYLOAD)


def _operation(
    request: HttpRequest,
    key: str,
    policy: IdempotencyPolicy,
    fingerprint: Callable[[], Fingerprint],
    *,
    has_intent: bool = False,
) -> Operation:
    caller = caller_of(request)
    if caller.is_guest:
        _require_guest_key(request, key)
    return Operation(
        scope=Scope(
            principal=caller.principal,
            method=request.method or "",
            path=path_of(request),
        ),
        key=key,
        fingerprint=fingerprint(),
        wait=policy.effective_wait,
        retention=policy.effective_retention,
        tombstone=policy.effective_tombstone,
        using=record_alias(),
        lease=policy.lease,
        intent=(
            intent_of(request, policy, is_guest=caller.is_guest) if has_intent else None
        ),
        trace=_trace_of(request),
        route=route_of(request),
    )


def route_of(request: HttpRequest) -> str | None:
    """Return the pattern of the URL; ``None`` where no URLconf has led to the view."""
    route: str | None = getattr(request.resolver_match, "route", None)
    return route


def _trace_of(request: HttpRequest) -> str:
    """Return the id that a proxy or a middleware has given the request, if any."""
    trace: str = request.META.get("HTTP_X_REQUEST_ID", "")
    return trace[:LONGEST_TRACE] if trace.isascii() and trace.isprintable() else ""


def may_carry_key(request: HttpRequest) -> bool:
    """Whether there is a key, or a body that has to be read to find one."""
    return _key_in_header(request) is not None or _is_form(request)


def is_too_large(request: HttpRequest, policy: IdempotencyPolicy) -> bool:
    """Whether we would have to read more than may be read before the view runs.

    As for Django, there is no such limit for uploads, unless the endpoint has its own.
    """
    is_read = _is_form(request) or (
        policy.fingerprint is None and _key_in_header(request) is not None
    )
    limit = policy.max_request_body
    if limit is None and request.content_type != MULTIPART:
        limit = conf.IDEMPOTENCY_MAX_REQUEST_BODY
    return is_read and limit is not None and size_of(request) > limit


def header_in_meta() -> str:
    """Return the name under which ``request.META`` holds the key's header."""
    return _in_meta(conf.IDEMPOTENCY_HEADER)


@cache
def _in_meta(header: str) -> str:
    return "HTTP_" + header.upper().replace("-", "_")


def _key_in_header(request: HttpRequest) -> str | None:
    return request.META.get(header_in_meta())


def _key_in_form(request: HttpRequest) -> str | None:
    if not _is_form(request):
        return None
    return form_field(request, conf.IDEMPOTENCY_FIELD)


def _is_form(request: HttpRequest) -> bool:
    return request.content_type in (FORM, MULTIPART)


def _require_guest_key(request: HttpRequest, key: str) -> None:
    require_unguessable(key)
    # In the header as well, or whoever has copied a page would only have to move it.
    if is_page_key(key) and not is_owned_by(key, browser_of_post(request)):
        raise KeyOfAnother


def _fingerprint(
    request: HttpRequest, policy: IdempotencyPolicy, view_request: Any
) -> Fingerprint:
    if policy.fingerprint is not None:
        hold_body(request)  # it may read what the view will read
        value = policy.fingerprint(view_request)
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogatepass")
        if not isinstance(value, bytes):
            raise TypeError(
                "The policy's fingerprint function must return str or bytes, not "
                f"{type(value).__name__}."
            )
        return fingerprint_of(b"hook", value)
    exclude = policy.exclude
    if policy.effective_intent_window and _is_form(request):
        exclude = {*exclude, CONFIRM_FIELD}  # that it is meant is no other content
    payload = canonical_payload(request, exclude, view_request)
    if conf.IDEMPOTENCY_COMPARE == "body":
        return fingerprint_of(b"body", payload)
    return fingerprint_of(
        canonical_query(_query_of(request)), media_type(request), payload
    )


def _query_of(request: HttpRequest) -> bytes:
    """Return the query's bytes as they were sent; WSGI decodes them as Latin-1."""
    encoding = "latin-1" if isinstance(request, WSGIRequest) else "utf-8"
    query: str = request.META.get("QUERY_STRING", "")
    return query.encode(encoding, "surrogateescape")
