"""A worker that dies at the worst moment: the card is charged, nothing is committed.

Only the demo's own settings put this in; the shop as such has no way to be killed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextvars import ContextVar

from django.http import HttpRequest, HttpResponseBase

from example_project.checkout.stripe_payments import StripePayments

__all__ = ["DIE_AFTER_CHARGE", "MortalPayments", "fault_middleware"]

#: Request headers that ask for it.
DIE_AFTER_CHARGE = {"X-Demo-Fault": "die-after-charge"}

_doomed: ContextVar[bool] = ContextVar("doomed", default=False)


def fault_middleware(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Remember, while a request is served, whether it is to kill its worker."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        asked = DIE_AFTER_CHARGE.items() <= request.headers.items()
        token = _doomed.set(asked)
        try:
            return get_response(request)
        finally:
            _doomed.reset(token)

    return middleware


class MortalPayments(StripePayments):
    def charge(self, *, amount_minor: int, payment_method: str, key: str) -> str:
        charge_id = super().charge(
            amount_minor=amount_minor, payment_method=payment_method, key=key
        )
        if _doomed.get():
            # kill -9: no handler, no clean-up, no rollback by us.
            os.kill(os.getpid(), signal.SIGKILL)
        return charge_id
