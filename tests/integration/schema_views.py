"""REST framework views whose schema is looked at; the URLconf is at the end."""

from __future__ import annotations

from typing import Any

from django.urls import include, path
from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.decorators import action, api_view
from rest_framework.generics import CreateAPIView, RetrieveUpdateDestroyAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet, ModelViewSet

from django_idempotency.decorators import idempotent
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.testapp.models import Order


class OrderSerializer(serializers.ModelSerializer[Order]):
    class Meta:
        model = Order
        fields = ["id", "amount"]


class Receipt(serializers.Serializer[Any]):
    text = serializers.CharField()


class Orders(IdempotencyMixin, ModelViewSet[Order]):
    """Orders, each placed once."""

    queryset = Order.objects.all()
    serializer_class = OrderSerializer

    def get_idempotency_policy(self) -> IdempotencyPolicy | None:
        match self.action:
            case "preview":
                return None
            case "note":
                return IdempotencyPolicy(required=False)
            case _:
                return super().get_idempotency_policy()

    @action(detail=True, methods=["post"])
    def preview(self, request: Request, pk: Any = None) -> Response:
        return Response()

    @action(detail=True, methods=["post"])
    def note(self, request: Request, pk: Any = None) -> Response:
        return Response()

    @extend_schema(summary="Cancel it", responses={200: OrderSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: Any = None) -> Response:
        return Response()


@extend_schema_view(create=extend_schema(summary="Place one"))
class DescribedOrders(IdempotencyMixin, ModelViewSet[Order]):
    queryset = Order.objects.all()
    serializer_class = OrderSerializer


class Payments(GenericViewSet[Order]):
    queryset = Order.objects.all()
    serializer_class = OrderSerializer

    @action(detail=True, methods=["post"])
    @idempotent
    def pay(self, request: Request, pk: Any = None) -> Response:
        return Response()

    @extend_schema(summary="Settle it")
    @action(detail=True, methods=["post"])
    @idempotent(required=False)
    def settle(self, request: Request, pk: Any = None) -> Response:
        return Response()

    @action(detail=True, methods=["post"])
    def unprotected(self, request: Request, pk: Any = None) -> Response:
        return Response()


class PlaceOrder(IdempotencyMixin, CreateAPIView[Order]):
    queryset = Order.objects.all()
    serializer_class = OrderSerializer


class OneOrder(IdempotencyMixin, RetrieveUpdateDestroyAPIView[Order]):
    queryset = Order.objects.all()
    serializer_class = OrderSerializer


class UnprotectedOrder(CreateAPIView[Order]):
    """An order as it comes."""

    queryset = Order.objects.all()
    serializer_class = OrderSerializer


@extend_schema(request=OrderSerializer, responses={201: OrderSerializer})
@api_view(["GET", "POST"])
@idempotent
def by_function(request: Request) -> Response:
    """Place an order by a function."""
    return Response()


class ByMethod(APIView):
    @extend_schema(
        request=OrderSerializer,
        responses={201: OrderSerializer, 409: Receipt, 422: None},
        parameters=[OpenApiParameter("X-Shop", location="header")],
    )
    @idempotent
    def post(self, request: Request) -> Response:
        return Response()


class AboveItsSchema(APIView):
    @idempotent
    @extend_schema(request=None, responses={204: None}, summary="Below")
    def post(self, request: Request) -> Response:
        return Response()


class Renamed(IdempotencyMixin, CreateAPIView[Order]):
    queryset = Order.objects.all()
    serializer_class = OrderSerializer


class OursFirst(OpenApiViewExtension):  # type: ignore[no-untyped-call]
    """What a project says itself about one of its views."""

    target_class = f"{__name__}.Renamed"

    def view_replacement(self) -> type[APIView]:
        @extend_schema(summary="Ours")
        class Ours(self.target_class):  # type: ignore[name-defined,misc]
            pass

        return Ours


router = SimpleRouter()
router.register("orders", Orders)
router.register("described-orders", DescribedOrders, "described")
router.register("payments", Payments, "payment")

urlpatterns = [
    path("", include(router.urls)),
    path("place/", PlaceOrder.as_view()),
    path("order/<int:pk>/", OneOrder.as_view()),
    path("unprotected/", UnprotectedOrder.as_view()),
    path("function/", by_function),
    path("method-above/", AboveItsSchema.as_view()),
    path("method/", ByMethod.as_view()),
    path("renamed/", Renamed.as_view()),
]
