"""Faults at the worst moment: the card is charged, or the handler is at work, and
nothing is committed; or something is, and the rest is not done.

Only the demo's own settings put this in; the shop as such has no way to be killed.
"""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from django.core.mail.backends.filebased import EmailBackend
from django.db import transaction
from django.db.models.signals import post_save, pre_save
from django.http import HttpRequest, HttpResponseBase

from example_project.checkout.models import Confirmation, Order
from example_project.checkout.stripe_payments import StripePayments
from example_project.theatre.naive.models import NaiveOrder

__all__ = [
    "DIE_AFTER_CHARGE",
    "DIE_AFTER_ORDER",
    "DIE_BEFORE_CHARGE",
    "DIE_IN_CHARGE",
    "DIE_IN_HANDLER",
    "FAIL_IN_HANDLER",
    "LOSE_ANSWER",
    "MAIL_SERVER_DOWN",
    "SLOW_SECONDS",
    "WITHOUT_KEYS",
    "FaultyMail",
    "HandlerFailed",
    "MortalPayments",
    "fault_middleware",
    "only_for",
]

#: Request headers that ask for it.
DIE_BEFORE_CHARGE = {"X-Demo-Fault": "die-before-charge"}
DIE_IN_CHARGE = {"X-Demo-Fault": "die-in-charge"}
DIE_AFTER_CHARGE = {"X-Demo-Fault": "die-after-charge"}
DIE_AFTER_ORDER = {"X-Demo-Fault": "die-after-order"}
LOSE_ANSWER = {"X-Demo-Fault": "lose-answer"}
MAIL_SERVER_DOWN = {"X-Demo-Fault": "mail-server-down"}
DIE_IN_HANDLER = {"X-Demo-Fault": "die-in-handler"}
FAIL_IN_HANDLER = {"X-Demo-Fault": "fail-in-handler"}
WITHOUT_KEYS = {"X-Demo-Provider": "without-keys"}

#: Less than customers wait for an answer. 64 copies at once take long on a busy machine,
#: and a payment that was given up and is charged later would be missing in the books.
_PATIENCE_SECONDS = 25
#: What the slow provider takes. Halfway the card is charged, and here the answer is
#: still on its way back.
SLOW_SECONDS = 3.0
_ON_THE_WAY_BACK = 0.75 * SLOW_SECONDS

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
    for order in (Order, NaiveOrder):
        post_save.connect(_after_order, sender=order)

    def middleware(request: HttpRequest) -> HttpResponseBase:
        token = _asked.set(request.headers)
        try:
            return get_response(request)
        finally:
            _asked.reset(token)

    return middleware


class MortalPayments(StripePayments):
    def __init__(self) -> None:
        super().__init__(timeout_seconds=_PATIENCE_SECONDS)
        # Hangs up on the slow provider.
        self._impatient = StripePayments(timeout_seconds=_ON_THE_WAY_BACK)

    @property
    def honours_keys(self) -> bool:
        return not _is_asked(WITHOUT_KEYS)

    def charge(self, *, amount_minor: int, payment_method: str, key: str) -> str:
        if _is_asked(DIE_BEFORE_CHARGE):
            _die()
        if _is_asked(DIE_IN_CHARGE):
            threading.Timer(_ON_THE_WAY_BACK, _die).start()
        send = self._impatient.charge if _is_asked(LOSE_ANSWER) else super().charge
        charge_id = send(
            amount_minor=amount_minor,
            payment_method=payment_method,
            # A provider that ignores keys takes each request for a new one.
            key=key if self.honours_keys else str(uuid.uuid4()),
        )
        if _is_asked(DIE_AFTER_CHARGE):
            _die()
        return charge_id


class FaultyMail(EmailBackend):
    def send_messages(self, email_messages: Any) -> int:
        if _is_asked(MAIL_SERVER_DOWN):
            raise ConnectionRefusedError("The mail server is down.")
        return super().send_messages(email_messages)


def _after_order(**kwargs: Any) -> None:
    if _is_asked(DIE_AFTER_ORDER):
        transaction.on_commit(_die)


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
