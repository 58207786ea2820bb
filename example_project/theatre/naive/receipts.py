"""The confirmation mail, sent each time that somebody says so."""

from __future__ import annotations

from django.core.mail import EmailMessage

from .models import NaiveOrder

__all__ = ["send_receipt"]


def send_receipt(order_id: int) -> None:
    order = NaiveOrder.objects.select_related("cart__user").get(pk=order_id)
    EmailMessage(
        f"Your order {order.pk}",
        f"Thank you. We charged your card {order.amount_minor / 100:.2f} EUR.",
        to=[order.cart.email],
    ).send()
