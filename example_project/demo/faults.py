"""Faults at the worst moment: the card is charged, or the handler is at work, and
nothing is committed.

Only the demo's own settings put this in; the shop as such has no way to be killed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from django.db.models.signals import pre_save
from django.http import HttpRequest, HttpResponseBase

from example_project.checkout.models import Confirmation
from example_project.checkout.stripe_payments import StripePayments

__all__ = [
    "DIE_AFTER_CHARGE",
    "DIE_IN_HANDLER",
    "FAIL_IN_HANDLER",
    "HandlerFailed",
    "MortalPayments",
    "fault_middleware",
    "only_for",
]

#: Request headers that ask for it.
DIE_AFTER_CHARGE = {"X-Demo-Fault": "die-after-charge"}
DIE_IN_HANDLER = {"X-Demo-Fault": "die-in-handler"}
FAIL_IN_HANDLER = {"X-Demo-Fault": "fail-in-handler"}

_asked: ContextVar[Mapping[str, str]] = ContextVar("asked")


def only_for(event_id: str, fault: Mapping[str, str]) -> Mapping[str, str]:
    """Of a batch, this event alone."""
    return {**fault, "X-Demo-Event": event_id}


class HandlerFailed(Exception):
    """As the demo asked for."""


def fault_middleware(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Remember, while a request is served, which fault it asks for."""
    pre_save.connect(_before_confirmation, sender=Confirmation)

    def middleware(request: HttpRequest) -> HttpResponseBase:
        token = _asked.set(request.headers)
        try:
            return get_response(request)
        finally:
            _asked.reset(token)

    return middleware


class MortalPayments(StripePayments):
    def charge(self, *, amount_minor: int, payment_method: str, key: str) -> str:
        charge_id = super().charge(
            amount_minor=amount_minor, payment_method=payment_method, key=key
        )
        if _is_asked(DIE_AFTER_CHARGE):
            _die()
        return charge_id


def _before_confirmation(instance: Confirmation, **kwargs: Any) -> None:
    if _asked.get({}).get("X-Demo-Event") not in (None, instance.event_id):
        return
    if _is_asked(DIE_IN_HANDLER):
        _die()
    if _is_asked(FAIL_IN_HANDLER):
        raise HandlerFailed


def _is_asked(fault: Mapping[str, str]) -> bool:
    return fault.items() <= _asked.get({}).items()


def _die() -> None:
    # kill -9: no handler, no clean-up, no rollback by us.
    os.kill(os.getpid(), signal.SIGKILL)
