"""The shop's outside calls with a point before and after each; also a URLconf.

The other points, around statements and COMMITs, are those of the middleware `Doom`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from django.core.mail.backends.filebased import EmailBackend
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from example_project.checkout.receipts import send_receipt
from example_project.checkout.stripe_payments import StripePayments
from tests.concurrency.leased.checkout import Doom

__all__ = ["WatchedMail", "WatchedPayments", "urlpatterns"]


class WatchedPayments(StripePayments):
    def charge(self, **arguments: Any) -> str:
        return _outside("charge", partial(super().charge, **arguments))

    def refund(self, **arguments: Any) -> str:
        return _outside("refund", partial(super().refund, **arguments))


class WatchedMail(EmailBackend):
    def send_messages(self, email_messages: Any) -> int:
        sent: int = Doom.points.around("mail", super().send_messages, email_messages)
        return sent


def _outside(name: str, act: partial[str]) -> str:
    provider_id: str = Doom.points.around(name, act)
    return provider_id


@csrf_exempt
def deliver(request: HttpRequest, order_id: int) -> HttpResponse:
    """Deliver the mail task, as the worker of a queue does."""
    return JsonResponse({"result": send_receipt(order_id)})


@csrf_exempt
def send_receipts(request: HttpRequest) -> HttpResponse:
    """The command that cron runs, where the mails go to the same folder."""
    call_command("send_receipts")
    return JsonResponse({})


urlpatterns = [
    path("deliver/<int:order_id>/", deliver),
    path("send-receipts/", send_receipts),
    path("", include("example_project.urls")),
]
