"""Confirmation mails: each sent once, after the commit, and never at a request's expense.

A mail can't be rolled back, and so it waits for the commit; a mail server can be down,
and so its error is logged instead of raised. What is not sent then is sent by
``manage.py send_receipts``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.core.mail import EmailMessage
from django.db import transaction

from django_idempotency.tasks import current_operation, idempotent_task

from .models import EmailChange, Order

__all__ = ["confirm_email_change", "send_after_commit", "send_receipt"]

#: Above what a mail server takes. Shorter than this, a copy of the task has to wait for
#: one that died.
LEASE = timedelta(minutes=1)


@idempotent_task(key=lambda order_id: f"receipt:{order_id}", lease=LEASE, copies="skip")
def send_receipt(order_id: int) -> None:
    """Confirm the order, however often this task is delivered."""
    order = Order.objects.select_related("cart__user").get(pk=order_id)
    _send_once(
        f"Your order {order.pk}",
        f"Thank you. We charged your card {order.amount_minor / 100:.2f} EUR.",
        to=order.email or order.cart.email,
    )


@idempotent_task(
    key=lambda change_id: f"email-change:{change_id}", lease=LEASE, copies="skip"
)
def confirm_email_change(change_id: int) -> None:
    """Tell the customer, at the new address, that it is the new one."""
    change = EmailChange.objects.get(pk=change_id)
    _send_once(
        "Your new e-mail address",
        "From now on we write to you at this address.",
        to=change.new,
    )


def send_after_commit(task: Callable[[int], object], pk: int) -> None:
    """Send at the commit; at once where no transaction is open."""

    def send() -> None:  # no partial, whose missing name Django 5.2 fails to log
        task(pk)

    transaction.on_commit(send, robust=True)


def _send_once(subject: str, body: str, *, to: str) -> None:
    """Mail servers know no keys: one that dies after sending, before this is noted,
    sends twice, and the Message-ID is what then tells a mailbox so."""

    def send(key: str) -> None:
        # Without an address nothing is sent.
        headers = {"Message-ID": f"<{key}@shop.example>"}
        EmailMessage(subject, body, to=[to], headers=headers).send()

    current_operation().call("mail", send)
