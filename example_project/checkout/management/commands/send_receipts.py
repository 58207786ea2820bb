"""``manage.py send_receipts``, for cron."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from example_project.checkout.models import EmailChange, Order
from example_project.checkout.receipts import confirm_email_change, send_receipt

logger = logging.getLogger(__name__)

#: Less than a task's key is remembered (IDEMPOTENCY_RETENTION).
RECENT = timedelta(days=1)

TASKS = {Order: send_receipt, EmailChange: confirm_email_change}


class Command(BaseCommand):
    help = (
        "Send the confirmations that are missing, because a server died between the "
        "commit of an order, or of a new e-mail address, and its mail, or the mail "
        "server was down. What has its confirmation gets no second one."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        since = timezone.now() - RECENT
        for model, send in TASKS.items():
            recent = model._default_manager.filter(created_at__gt=since)
            for row in recent.values_list("pk", flat=True):
                try:
                    send(row)
                except Exception:
                    name = model._meta.verbose_name
                    logger.exception("The receipt of %s %s was not sent", name, row)
