from __future__ import annotations

from django.db import models


class Order(models.Model):
    """What a view in the tests writes; one row is one execution."""

    reference = models.CharField(max_length=200, default="")
    amount = models.IntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["reference"],
                condition=~models.Q(reference=""),
                name="order_reference_once",
            )
        ]

    def __str__(self) -> str:
        return f"order {self.pk}"
