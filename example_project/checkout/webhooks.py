"""What payment providers call: each event is acted on once, and none is lost.

Stripe reports to two addresses with one id: the first confirms payments while Stripe
waits, the second puts the event into an inbox, from which ``manage.py process_events``
keeps the books. GoCardless reports many payments in one delivery.
"""

from __future__ import annotations

from django.conf import settings

from django_idempotency.webhooks import (
    Event,
    NotReady,
    WebhookView,
    on,
    providers,
    webhook,
)
from django_idempotency.webhooks.rest_framework import WebhookAPIView

from .confirmations import PaymentUnknown, Report, book_payment, confirm_payment

__all__ = [
    "DirectDebitEvents",
    "DirectDebitEventsAPI",
    "PaymentEvents",
    "PaymentEventsAPI",
    "bookkeeping",
]


def stripe_secrets() -> list[str]:
    """Asked at each delivery; the newest first, and the old one until none signs so."""
    secrets: list[str] = getattr(settings, "STRIPE_WEBHOOK_SECRETS")  # noqa: B009
    return secrets


def gocardless_secrets() -> list[str]:
    secrets: list[str] = getattr(settings, "GOCARDLESS_WEBHOOK_SECRETS")  # noqa: B009
    return secrets


class ConfirmsCardPayments:
    @on(
        "payment_intent.processing",
        "payment_intent.succeeded",
        "payment_intent.canceled",
    )
    def payment_changed(self, event: Event) -> None:
        intent = event.data["data"]["object"]
        _confirm(intent["id"], status=intent["status"], event=event)


class ConfirmsDirectDebits:
    @on("payments:confirmed", "payments:failed", "payments:paid_out")
    def payment_changed(self, event: Event) -> None:
        payment = event.data["links"]["payment"]
        _confirm(payment, status=event.data["action"], event=event)


class PaymentEvents(ConfirmsCardPayments, WebhookView):
    profile = providers.STRIPE
    secrets = stripe_secrets
    endpoint = "payments"


class PaymentEventsAPI(ConfirmsCardPayments, WebhookAPIView):
    """The same among REST framework's views."""

    profile = providers.STRIPE
    secrets = stripe_secrets
    endpoint = "payments-api"


class DirectDebitEvents(ConfirmsDirectDebits, WebhookView):
    profile = providers.GOCARDLESS
    secrets = gocardless_secrets
    endpoint = "direct-debits"


class DirectDebitEventsAPI(ConfirmsDirectDebits, WebhookAPIView):
    """The same among REST framework's views."""

    profile = providers.GOCARDLESS
    secrets = gocardless_secrets
    endpoint = "direct-debits-api"


@webhook(providers.STRIPE, secrets=stripe_secrets, endpoint="bookkeeping", inbox=True)
def bookkeeping(event: Event) -> None:
    """Run by a worker, long after Stripe got its answer."""
    if event.type != "payment_intent.succeeded":
        return
    intent = event.data["data"]["object"]
    book_payment(intent["id"], amount_minor=intent["amount"], report=_report(event))


def _confirm(payment: str, *, status: str, event: Event) -> None:
    try:
        confirm_payment(payment, status=status, report=_report(event))
    except PaymentUnknown as error:
        # The order may be on its way: the provider shall ask again, not be told "done".
        raise NotReady(str(error)) from error


def _report(event: Event) -> Report:
    return Report(
        event_id=event.id, endpoint=event.endpoint, occurred_at=event.occurred_at
    )
