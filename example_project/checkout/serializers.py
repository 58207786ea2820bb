"""What the API reads and shows."""

from __future__ import annotations

from django.db.models import QuerySet
from rest_framework import serializers

from .models import Cart, Order, Refund


class OwnCartField(serializers.PrimaryKeyRelatedField[Cart]):
    """Somebody else's cart is as unknown as one that never was."""

    def get_queryset(self) -> QuerySet[Cart]:
        return Cart.objects.filter(user=self.context["request"].user)


class OrderSerializer(serializers.ModelSerializer[Order]):
    # Named here, so that DRF adds no look whether the cart has been ordered: looking
    # first protects nobody, and place_order() decides it under a lock.
    cart = OwnCartField()
    payment_method = serializers.RegexField(r"^pm_\w+$", write_only=True)

    class Meta:
        model = Order
        fields = ["id", "cart", "amount_minor", "created_at", "payment_method"]
        read_only_fields = ["amount_minor"]


class RefundSerializer(serializers.ModelSerializer[Refund]):
    class Meta:
        model = Refund
        fields = ["id", "amount_minor", "created_at"]
