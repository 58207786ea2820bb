"""From a request to the operation that it asks for."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest
from django.utils.module_loading import import_string

from .bodies import FORM, MULTIPART, canonical_payload, hold_body, media_type
from .conf import conf
from .exceptions import InvalidKey
from .fingerprints import Fingerprint, canonical_query, fingerprint_of
from .keys import parse_key, require_unguessable
from .operations import Operation, Scope
from .policies import IdempotencyPolicy
from .steps import IfUnknown, RunningSteps, Steps, in_thread

__all__ = ["Idempotency", "IdempotentRequest", "principal_of"]

ANONYMOUS = "anonymous"


class Idempotency:
    """The operation that a view is running in, as ``request.idempotency``."""

    def __init__(self, steps: Steps | None = None) -> None:
        self._given = steps

    @cached_property
    def _steps(self) -> Steps:
        return self._given or RunningSteps.without_key()

    @property
    def key(self) -> str | None:
        """The client's key; ``None`` if it sent none. Never pass it on: use `key_for`."""
        operation = self._steps.operation
        return None if operation is None else operation.key

    @property
    def record_id(self) -> uuid.UUID | None:
        """The primary key of the record; ``None`` without a key."""
        operation = self._steps.operation
        return None if operation is None else operation.record_id

    def key_for(self, label: str) -> str:
        """Return the key to hand to another party for the step `label`, 36 characters.

        Equal on each attempt at this operation, whatever crashed in between; another
        key, scope or label gives another. Without a key from the client, a fresh one.
        """
        return self._steps.key_for(label)

    def call(
        self,
        name: str,
        fn: Callable[[str], Any],
        *,
        if_unknown: IfUnknown = "repeat",
    ) -> Any:
        """Make an outside call: ``fn(key)`` with the key that `key_for` gives.

        In the leased shape its start and its JSON result are committed around it, so
        that a finished call is not made again when the operation is resumed after a
        crash; `fn` then runs outside of any transaction. What `fn` returns is the
        outcome, a refusal by the other side too; after an error it is unknown.

        `if_unknown` says what a retry does about a call that began and whose outcome is
        unknown: ``"repeat"`` makes it again with the same key, for another side that
        honours keys; a function of the key looks the outcome up, and returns it, or
        ``None`` if the call was not applied; ``"hold"`` answers 409 ``outcome-unknown``
        until a person settles the record.

        In the atomic shape, and without a key, `fn` simply runs.

        Raises:
            StepError, LeaseLost, OutcomeUnknown: nothing was called. Let them out.
            TypeError: the result is no JSON.
            RuntimeError: in the leased shape, inside a transaction of the view's own.
        """
        return self._steps.call(name, fn, if_unknown)

    def write(self, name: str, fn: Callable[[], Any]) -> Any:
        """Run ``fn()`` in one transaction with the memory of its JSON result.

        When the operation is resumed after a crash it does not run again, and the same
        result is returned. It is rolled back if the lease was lost meanwhile.

        Raises:
            StepError, LeaseLost: nothing was written. Let them out.
            TypeError: the result is no JSON; nothing was written.
            RuntimeError: in the leased shape, inside a transaction of the view's own.
        """
        return self._steps.write(name, fn)

    def extend(self, lease: timedelta | None = None) -> None:
        """Let the lease end so long from now; by default, as long as at first.

        In the atomic shape there is no lease, and nothing happens.

        Raises:
            LeaseLost: another request has taken the operation over. Let it out.
            RuntimeError: in the leased shape, inside a transaction of the view's own.
        """
        self._steps.extend(lease)

    async def acall(
        self,
        name: str,
        fn: Callable[[str], Awaitable[Any]],
        *,
        if_unknown: IfUnknown = "repeat",
    ) -> Any:
        """`call` in an async view: ``await fn(key)``."""
        return await self._steps.acall(name, fn, if_unknown)

    async def awrite(self, name: str, fn: Callable[[], Any]) -> Any:
        """`write` in an async view; `fn` is synchronous, as Django's transactions are."""
        return await in_thread(self._steps.write, name, fn)

    async def aextend(self, lease: timedelta | None = None) -> None:
        """`extend` in an async view."""
        await in_thread(self._steps.extend, lease)


class IdempotentRequest(HttpRequest):
    """Annotation for the request that a decorated view gets."""

    if TYPE_CHECKING:
        idempotency: Idempotency


def key_of(request: HttpRequest) -> str | None:
    """Return the client's key, ``None`` if it sent none.

    Raises:
        InvalidKey: if it can't be used, or header and form field differ.
    """
    sent = {
        parse_key(raw)
        for raw in (_key_in_header(request), _key_in_form(request))
        if raw is not None
    }
    if len(sent) > 1:
        raise InvalidKey("The key in the header and the key in the form differ.")
    return sent.pop() if sent else None


def principal_of(request: HttpRequest) -> str:
    """Return whose keys these are: the signed-in user, else everybody anonymous.

    A hook in IDEMPOTENCY_PRINCIPAL may call it for the requests it has no opinion on.

    Raises:
        ImproperlyConfigured: if a signed-in user has nothing to be told by.
    """
    user: Any = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return ANONYMOUS
    identity = getattr(user, "pk", None)
    if identity is None or identity == "":
        raise ImproperlyConfigured(
            f"A signed-in {type(user).__name__} without a pk can't be told from "
            "another. Name your principals: IDEMPOTENCY_PRINCIPAL = "
            '"yourproject.idempotency.principal"  # a function: request -> str'
        )
    meta = getattr(user, "_meta", None)
    if meta is None:
        kind = f"{type(user).__module__}.{type(user).__qualname__}"
    else:
        kind = meta.concrete_model._meta.label
    return f"{kind}:{identity}"


def principal_for(request: HttpRequest) -> str:
    """Return the principal that the project's hook names, else `principal_of`.

    Raises:
        ImproperlyConfigured: if the hook returns no name.
    """
    path = conf.IDEMPOTENCY_PRINCIPAL
    if path is None:
        return principal_of(request)
    principal = import_string(path)(request)
    if not isinstance(principal, str) or not principal:
        raise ImproperlyConfigured(
            f"IDEMPOTENCY_PRINCIPAL = {path!r} returned {type(principal).__name__} "
            "where it must return a non-empty str: two callers without a name would "
            "share their keys."
        )
    return principal


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
    """
    principal = principal_for(request)
    if principal == ANONYMOUS:
        _require_guest_key(key)
    return Operation(
        scope=Scope(
            principal=principal, method=request.method or "", path=request.path
        ),
        key=key,
        fingerprint=_fingerprint(request, policy, view_request),
        wait=policy.effective_wait,
        retention=policy.effective_retention,
        lease=policy.lease,
    )


def header_in_meta() -> str:
    """Return the name under which ``request.META`` holds the key's header."""
    return "HTTP_" + conf.IDEMPOTENCY_HEADER.upper().replace("-", "_")


def _key_in_header(request: HttpRequest) -> str | None:
    return request.META.get(header_in_meta())


def _key_in_form(request: HttpRequest) -> str | None:
    # Browsers post forms, and Django parses the fields of nothing else.
    if request.method != "POST" or request.content_type not in (FORM, MULTIPART):
        return None
    hold_body(request)  # a view may want the bytes of the form as well
    return request.POST.get(conf.IDEMPOTENCY_FIELD)


def _require_guest_key(key: str) -> None:
    if conf.IDEMPOTENCY_ANONYMOUS == "refuse":
        raise InvalidKey("Sign in to send an idempotency key.")
    require_unguessable(key)


def _fingerprint(
    request: HttpRequest, policy: IdempotencyPolicy, view_request: Any
) -> Fingerprint:
    if policy.fingerprint is not None:
        value = policy.fingerprint(view_request)
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogatepass")
        if not isinstance(value, bytes):
            raise TypeError(
                f"The policy's fingerprint function returned {type(value).__name__}, "
                "not str or bytes."
            )
        return fingerprint_of(b"hook", value)
    parsed = None if view_request is request else view_request.data
    return fingerprint_of(
        canonical_query(_query_of(request)),
        media_type(request),
        canonical_payload(request, policy.exclude, parsed),
    )


def _query_of(request: HttpRequest) -> bytes:
    """Return the query as it came; WSGI hands bytes over as if they were Latin-1."""
    encoding = "latin-1" if isinstance(request, WSGIRequest) else "utf-8"
    query: str = request.META.get("QUERY_STRING", "")
    return query.encode(encoding, "surrogateescape")
