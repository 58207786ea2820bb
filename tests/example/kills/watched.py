"""A middleware by which a request says at which of its points a signal ends its process.

The points are before and after each statement, each COMMIT and each outside call of the
shop, which is in the URLconf here.
"""

import json
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

from django.core.mail.backends.filebased import EmailBackend
from django.core.management import call_command
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from example_project.checkout.receipts import send_receipt
from example_project.checkout.stripe_payments import StripePayments


class Points:
    """The points that one request passes, in their order."""

    def __init__(self, at: int | None, fatal: signal.Signals) -> None:
        self.at = at
        self.fatal = fatal
        self.passed: list[str] = []

    def passing(self, name: str) -> None:
        self.passed.append(name)
        if len(self.passed) - 1 == self.at:
            os.kill(os.getpid(), self.fatal)

    def around(self, name: str, act: Callable[..., Any], *args: Any) -> Any:
        self.passing(f"before {name}")
        result = act(*args)
        self.passing(f"after {name}")
        return result

    def statement(self, execute: Any, sql: str, *args: Any) -> Any:
        return self.around(sql.partition(" ")[0], execute, sql, *args)


class Doom:
    """Middleware: reads from the headers where to end, and answers what was passed."""

    points = Points(None, signal.SIGKILL)

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        at = request.headers.get("Doom-At")
        fatal = signal.Signals[request.headers.get("Doom-Signal", "SIGKILL")]
        # Each request has a process of its own.
        Doom.points = points = Points(None if at is None else int(at), fatal)
        wrapped: Any = connection
        wrapped._commit = partial(points.around, "COMMIT", connection._commit)  # type: ignore[attr-defined]
        with connection.execute_wrapper(points.statement):
            response = self.get_response(request)
        response.headers["Doom-Points"] = json.dumps(points.passed)
        return response


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
