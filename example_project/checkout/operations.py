"""Checkout and refund as operations of django-ninja."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import JsonResponse
from django.shortcuts import get_object_or_404
from ninja import Field, NinjaAPI, Schema
from ninja.security import django_auth

from django_idempotency.contrib.ninja import idempotent
from django_idempotency.http import IdempotentRequest

from .models import Cart, Order
from .ordering import place_order, refund_order
from .refusals import Refusal

api = NinjaAPI(title="Shop", urls_namespace="operations", auth=django_auth)


class Checkout(Schema):
    cart: int
    payment_method: str = Field(pattern=r"^pm_\w+$")


class OrderShown(Schema):
    id: int
    amount_minor: int
    created_at: datetime


class RefundShown(Schema):
    id: int
    amount_minor: int
    created_at: datetime


@api.post("/orders/", response={201: OrderShown})
@idempotent
def create_order(request: IdempotentRequest, checkout: Checkout) -> Any:
    """Pay for a cart: 201 with the order, however often the request arrives."""
    cart = get_object_or_404(Cart, pk=checkout.cart, user=request.user.pk)
    try:
        return place_order(
            cart,
            payment_method=checkout.payment_method,
            key=request.idempotency.key_for("charge"),
        )
    except Refusal as refusal:
        return JsonResponse(refusal.as_json(), status=refusal.status)


@api.post("/orders/{int:pk}/refund/", response={201: RefundShown})
@idempotent
def create_refund(request: IdempotentRequest, pk: int) -> Any:
    """Give the money of an order back: 201 with the refund, once per order."""
    order = get_object_or_404(Order, pk=pk, cart__user=request.user.pk)
    try:
        return refund_order(order, key=request.idempotency.key_for("refund"))
    except Refusal as refusal:
        return JsonResponse(refusal.as_json(), status=refusal.status)
