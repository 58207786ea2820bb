"""Checkout and refund as a Django REST framework viewset."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response

from django_idempotency.rest_framework import IdempotencyMixin, IdempotentRequest

from .models import Order
from .ordering import place_order, refund_order
from .refusals import Refusal
from .serializers import OrderSerializer, RefundSerializer


class OrderViewSet(
    IdempotencyMixin,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    viewsets.GenericViewSet[Order],
):
    serializer_class = OrderSerializer
    permission_classes = [IsAuthenticated]

    def get_queryset(self) -> QuerySet[Order]:
        return Order.objects.filter(cart__user=self.request.user.pk).order_by("pk")

    def create(self, request: IdempotentRequest) -> Response:
        """Pay for a cart: 201 with the order, however often the request arrives."""
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        try:
            order = place_order(
                serializer.validated_data["cart"],
                payment_method=serializer.validated_data["payment_method"],
                key=request.idempotency.key_for("charge"),
            )
        except Refusal as refusal:
            return Response(refusal.as_json(), status=refusal.status)
        return Response(self.get_serializer(order).data, status=201)

    @extend_schema(request=None, responses={201: RefundSerializer})
    @action(detail=True, methods=["post"])
    def refund(self, request: IdempotentRequest, pk: str) -> Response:
        """Give the money of an order back: 201 with the refund, once per order."""
        try:
            made = refund_order(
                self.get_object(), key=request.idempotency.key_for("refund")
            )
        except Refusal as refusal:
            return Response(refusal.as_json(), status=refusal.status)
        return Response(RefundSerializer(made).data, status=201)
