"""What the shop does with what a payment provider reports.

Each function runs in the transaction of its caller, and acts each time that it is
called: knowing a repeated report from a new one is the business of the receiver.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from .models import Booking, Confirmation, Payment

__all__ = ["PaymentUnknown", "Report", "book_payment", "confirm_payment"]


class PaymentUnknown(Exception):
    """No order has this payment, or none has it yet.

    A provider can be faster than the transaction that makes the order.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Which event says so."""

    event_id: str
    endpoint: str
    #: By the provider's clock; ``None`` if it doesn't say.
    occurred_at: datetime | None


def confirm_payment(provider_id: str, *, status: str, report: Report) -> None:
    """Act on a payment's new status, and keep the status if it is the newest.

    Events arrive in any order, and an older one is as new to the receiver as any: that
    it must not undo a newer one is for the shop to say. Of two in one second, which is
    as exact as Stripe's clock is, the later to arrive wins.

    Raises:
        PaymentUnknown: nothing was done.
    """
    payment = Payment.objects.filter(provider_id=provider_id).first()
    if payment is None:
        raise PaymentUnknown(provider_id)
    is_newest = Q(status_at=None)
    if report.occurred_at is not None:
        is_newest |= Q(status_at__lte=report.occurred_at)
    # Compared in the statement that writes: two events may be here at once.
    Payment.objects.filter(is_newest, pk=payment.pk).update(
        status=status, status_at=report.occurred_at
    )
    Confirmation.objects.create(
        payment=payment, event_id=report.event_id, endpoint=report.endpoint
    )


def book_payment(provider_id: str, *, amount_minor: int, report: Report) -> None:
    """Enter money that came in into the books; an order is not needed for that."""
    Booking.objects.create(
        provider_id=provider_id,
        amount_minor=amount_minor,
        event_id=report.event_id,
        endpoint=report.endpoint,
    )
