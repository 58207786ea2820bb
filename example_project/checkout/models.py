"""What is sold, what was ordered, and which money moved.

Amounts are whole numbers of the currency's minor unit (cents), as payment providers
count, so that nothing is ever rounded.
"""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models

CURRENCY = "eur"


class Product(models.Model):
    name = models.CharField(max_length=100)
    price_minor = models.PositiveIntegerField()

    def __str__(self) -> str:
        return self.name


class Cart(models.Model):
    """A customer's, or nobody's: that of a guest, who has its token and no account."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="carts",
        null=True,
        blank=True,
    )
    #: Names it where everybody could read the name: unlike the number, nobody guesses it.
    token = models.UUIDField(default=uuid.uuid4, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    #: The operation that is paying for it, for longer than a lock can be held.
    reserved_by = models.UUIDField(null=True, blank=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["token"], name="one_cart_per_token")
        ]

    def __str__(self) -> str:
        return f"cart {self.pk}"

    @property
    def email(self) -> str:
        """Where to write to its owner; nowhere, if that is a guest."""
        return self.user.email if self.user else ""

    def amount_due(self) -> int:
        """What is to be paid for it, at the prices of this moment."""
        price = models.F("quantity") * models.F("product__price_minor")
        due: int = self.items.aggregate(due=models.Sum(price, default=0))["due"]
        return due


class CartItem(models.Model):
    cart = models.ForeignKey(Cart, on_delete=models.CASCADE, related_name="items")
    product = models.ForeignKey(Product, on_delete=models.PROTECT)
    quantity = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["cart", "product"], name="one_item_per_product_in_cart"
            ),
            models.CheckConstraint(
                condition=models.Q(quantity__gt=0), name="item_quantity_positive"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.quantity} x {self.product}"


class Order(models.Model):
    """A cart that was paid."""

    cart = models.ForeignKey(Cart, on_delete=models.PROTECT, related_name="orders")
    amount_minor = models.PositiveIntegerField()
    #: Where a guest wants the receipt; a customer gets it at the account's address.
    email = models.EmailField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            # An idempotency key makes one *request* safe to repeat. Two requests with
            # two keys are two wishes, from two tabs for example, and that a cart is
            # ordered once is for the shop to say.
            models.UniqueConstraint(fields=["cart"], name="one_order_per_cart")
        ]

    def __str__(self) -> str:
        return f"order {self.pk}"


class Payment(models.Model):
    """Money that came in: one charge at the provider."""

    order = models.OneToOneField(Order, on_delete=models.PROTECT)
    provider_id = models.CharField(max_length=255)
    amount_minor = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
    #: What the provider last reported of it, by the provider's clock; empty so far.
    status = models.CharField(max_length=50, blank=True)
    status_at = models.DateTimeField(null=True, blank=True)
    #: The operation that is giving the money back.
    reserved_by = models.UUIDField(null=True, blank=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["provider_id"], name="one_payment_per_charge"
            )
        ]

    def __str__(self) -> str:
        return f"payment {self.provider_id}"


class Refund(models.Model):
    """Money that went back: the whole payment, at most once."""

    payment = models.OneToOneField(Payment, on_delete=models.PROTECT)
    provider_id = models.CharField(max_length=255)
    amount_minor = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["provider_id"], name="one_refund_per_provider_refund"
            )
        ]

    def __str__(self) -> str:
        return f"refund {self.provider_id}"


class EmailChange(models.Model):
    """A customer's new address, and the one before it."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="email_changes"
    )
    old = models.EmailField(blank=True)
    new = models.EmailField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"e-mail change {self.pk}"


class Confirmation(models.Model):
    """A report of the provider on which the shop acted, such as by sending the goods.

    One per event, and no constraint says so: that each event is acted on once is the
    receiver's promise, and the demo counts these rows to see whether it is kept.
    """

    payment = models.ForeignKey(
        Payment, on_delete=models.PROTECT, related_name="confirmations"
    )
    event_id = models.CharField(max_length=255)
    #: Through which webhook it came.
    endpoint = models.CharField(max_length=255)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"confirmation {self.event_id}"


class Booking(models.Model):
    """Money that came in, as the books have it; unconstrained for the same reason."""

    provider_id = models.CharField(max_length=255)
    amount_minor = models.PositiveIntegerField()
    event_id = models.CharField(max_length=255)
    #: Through which webhook it came.
    endpoint = models.CharField(max_length=255)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"booking {self.event_id}"
