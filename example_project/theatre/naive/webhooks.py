"""Webhooks as they are usually written first: look, mark as seen, then act.

What it does wrong: it checks no signature and asks the provider instead, who confirms a
forgery about a real payment. Meanwhile copies of the event look too, and are acted on
as well. And what is marked and then fails, or dies, or comes before its order, is lost:
the next delivery finds the mark. So does the same event's delivery to another address.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from example_project.checkout.confirmations import (
    PaymentUnknown,
    Report,
    book_payment,
    confirm_payment,
)
from example_project.checkout.payments import payment_provider

from .models import SeenEvent

ENDPOINT = "naive"


@csrf_exempt
@require_POST
def payments(request: HttpRequest) -> HttpResponse:
    def act(intent: dict[str, Any], status: str, report: Report) -> None:
        confirm_payment(intent["id"], status=status, report=report)

    return _answer([_stripe_event(json.loads(request.body), act)])


@csrf_exempt
@require_POST
def bookkeeping(request: HttpRequest) -> HttpResponse:
    def act(intent: dict[str, Any], status: str, report: Report) -> None:
        book_payment(intent["id"], amount_minor=intent["amount"], report=report)

    return _answer([_stripe_event(json.loads(request.body), act)])


@csrf_exempt
@require_POST
def direct_debits(request: HttpRequest) -> HttpResponse:
    return _answer(
        [_direct_debit_event(event) for event in json.loads(request.body)["events"]]
    )


def _stripe_event(
    event: dict[str, Any], act: Callable[[dict[str, Any], str, Report], None]
) -> str:
    if _is_seen(event):
        return "seen"
    intent = event["data"]["object"]
    status = payment_provider().status(intent["id"])
    occurred_at = datetime.fromtimestamp(event["created"], UTC)
    return _mark_and(lambda: act(intent, status, _report(event, occurred_at)), event)


def _direct_debit_event(event: dict[str, Any]) -> str:
    if _is_seen(event):
        return "seen"
    report = _report(event, datetime.fromisoformat(event["created_at"]))
    payment, status = event["links"]["payment"], event["action"]
    return _mark_and(
        lambda: confirm_payment(payment, status=status, report=report), event
    )


def _is_seen(event: dict[str, Any]) -> bool:
    return SeenEvent.objects.filter(event_id=event["id"]).exists()


def _mark_and(act: Callable[[], None], event: dict[str, Any]) -> str:
    SeenEvent.objects.create(event_id=event["id"])
    try:
        act()
    except PaymentUnknown:
        return "unknown"
    return "done"


def _report(event: dict[str, Any], occurred_at: datetime) -> Report:
    return Report(event_id=event["id"], endpoint=ENDPOINT, occurred_at=occurred_at)


def _answer(results: list[str]) -> HttpResponse:
    status = 404 if "unknown" in results else 200
    return HttpResponse(", ".join(results), status=status)
