"""The shop's books in the admin, as they are."""

from __future__ import annotations

from django.contrib import admin

from .models import (
    Booking,
    Cart,
    CartItem,
    Confirmation,
    EmailChange,
    Order,
    Payment,
    Product,
    Refund,
)

admin.site.register(
    [
        Booking,
        Cart,
        CartItem,
        Confirmation,
        EmailChange,
        Order,
        Payment,
        Product,
        Refund,
    ]
)
