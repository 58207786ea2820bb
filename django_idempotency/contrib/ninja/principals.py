"""Whose keys they are where ninja's authentication knows the caller, and Django doesn't."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from ninja.operation import Operation
from ninja.security import SessionAuth, SessionAuthSuperUser

from django_idempotency.http.requests import name_of_user

OF_A_SESSION = (SessionAuth, SessionAuthSuperUser)
"""They return the signed-in user."""

# A JSON Web Token: a new one is sent for the same caller when it has run out.
RENEWED = re.compile(r"eyJ[\w-]*\.[\w-]+\.[\w-]*")


def known_as(operation: Operation, request: HttpRequest) -> str | None:
    """Return the name of whom ``request.auth`` stands for; ``None``: it doesn't say.

    Raises:
        ImproperlyConfigured: it stands for somebody, and can't be told from others.
    """
    auth: Any = getattr(request, "auth", None)
    is_nobody = getattr(auth, "is_authenticated", True) is False
    if not operation.auth_callbacks or auth is None or auth is True or is_nobody:
        return None
    if hasattr(auth, "pk"):
        return name_of_user(auth)
    if isinstance(auth, Mapping) and isinstance(auth.get("sub"), str):
        return _digest("sub", str(auth.get("iss", "")), auth["sub"])
    if isinstance(auth, str | bytes | int | UUID) and _is_the_callers_own(
        auth, operation
    ):
        return _digest(type(auth).__name__, str(auth))
    raise ImproperlyConfigured(
        f"request.auth is of the type {type(auth).__name__}, which doesn't say for "
        "certain whose keys these are: a token may be renewed, and two ways to "
        "authenticate may give the same text to two callers. Nothing was done. Let the "
        "authentication return a model instance, or name the caller:\n\n"
        '    IDEMPOTENCY_PRINCIPAL = "yourproject.idempotency.principal"\n\n'
        "    def principal(request):\n"
        '        return Identified(f"client:{request.auth…}")'
    )


def _is_the_callers_own(auth: Any, operation: Operation) -> bool:
    if isinstance(auth, str) and RENEWED.fullmatch(auth):
        return False
    others = [
        each for each in operation.auth_callbacks if not isinstance(each, OF_A_SESSION)
    ]
    return len(others) == 1


def _digest(*parts: str) -> str:
    """Return a name that gives no token away, and outlives a change of SECRET_KEY."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass"))
    return f"auth:{digest.hexdigest()[:32]}"
