"""``manage.py send_receipts``, for cron."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from example_project.checkout.models import Order
from example_project.checkout.receipts import send_receipt

logger = logging.getLogger(__name__)

#: Less than a task's key is remembered (IDEMPOTENCY_RETENTION).
RECENT = timedelta(days=1)


class Command(BaseCommand):
    help = (
        "Send the confirmations that are missing, because a server died between the "
        "order's commit and its mail, or the mail server was down. An order that has "
        "its confirmation gets no second one."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        orders = Order.objects.filter(created_at__gt=timezone.now() - RECENT)
        for order_id in orders.values_list("pk", flat=True):
            try:
                send_receipt(order_id)
            except Exception:
                logger.exception("The receipt of order %s was not sent", order_id)
