"""Orders, refunds and events without the constraints that checkout's tables have.

A constraint alone would not have saved the customer either: the second order's insert
would fail, *after* the second charge, and leave a server error and no trace of the money.
"""

from __future__ import annotations

from django.db import models

from example_project.checkout.models import Cart


class NaiveOrder(models.Model):
    cart = models.ForeignKey(
        Cart, on_delete=models.PROTECT, related_name="naive_orders"
    )
    amount_minor = models.PositiveIntegerField()
    charge_id = models.CharField(max_length=255)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"naive order {self.pk}"


class NaiveRefund(models.Model):
    order = models.ForeignKey(
        NaiveOrder, on_delete=models.PROTECT, related_name="refunds"
    )
    refund_id = models.CharField(max_length=255)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"naive refund {self.pk}"


class SeenEvent(models.Model):
    """An event that arrived before, whatever became of it."""

    event_id = models.CharField(max_length=255)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"seen event {self.event_id}"
