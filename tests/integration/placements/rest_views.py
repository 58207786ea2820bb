"""REST framework: below ``@api_view`` and ``@action``, or the mixin."""

from typing import Any

from django.db import transaction
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from rest_framework.decorators import action, api_view, permission_classes, schema
from rest_framework.generics import CreateAPIView, GenericAPIView
from rest_framework.mixins import CreateModelMixin
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet, ViewSet

from django_idempotency.decorators import idempotent
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.integration.rest.exchange import OrderSerializer
from tests.testapp.models import Order

from .placement import follow, opened, permitted, place_order


class MayOrder(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        return bool(request.user.has_perm("testapp.add_order"))


def order(request: Request, /) -> Response:
    wish: Any = request.data
    content, status = place_order(wish)
    return Response(content, status=status)


POST = api_view(["POST"])
MAY_ORDER = permission_classes([MayOrder])
NO_SCHEMA = schema(None)

below_api_view = POST(idempotent(order))


# Written out, since these mark the function itself.
@POST
@idempotent
@MAY_ORDER
def above_permission_classes(request: Request) -> Response:
    return order(request)


@POST
@idempotent
@NO_SCHEMA
def above_schema(request: Request) -> Response:
    return order(request)


@POST
@idempotent
def calls_another(request: Request) -> Any:
    return below_api_view(request._request)


@POST
@idempotent
def calls_mixin(request: Request) -> Any:
    return OpenMixin.as_view()(request._request)


class OrderView(APIView):
    permission_classes = [MayOrder]

    def post(self, request: Request) -> Response:
        return order(request)


class DirectlyOnMethod(OrderView):
    @idempotent
    def post(self, request: Request) -> Response:
        return order(request)


@method_decorator(idempotent, name="post")
class OnMethod(OrderView): ...


@method_decorator(idempotent, name="dispatch")
class OnDispatch(OrderView): ...


class MixinOnApiView(IdempotencyMixin, OrderView): ...


class OpenMixin(MixinOnApiView):
    permission_classes = []


class MixinAndDecorator(IdempotencyMixin, DirectlyOnMethod): ...


@method_decorator(idempotent, name="dispatch")
class MixinAndDispatch(MixinOnApiView): ...


class Obedient(CreateModelMixin, GenericAPIView[Order]):
    """Creates as the framework does, with an outcome steered by the payload."""

    queryset = Order.objects.all()
    serializer_class = OrderSerializer
    permission_classes = [MayOrder]

    def perform_create(self, serializer: BaseSerializer[Order]) -> None:
        serializer.save()
        follow(serializer.initial_data)

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        response = super().create(request, *args, **kwargs)
        wish: Any = request.data
        response.status_code = wish.get("returns", response.status_code)
        return response


class Generic(IdempotencyMixin, Obedient, CreateAPIView[Order]): ...


class Orders(IdempotencyMixin, Obedient, ModelViewSet[Order]):
    @action(detail=False, methods=["post"])
    def reorder(self, request: Request) -> Response:
        return order(request)


class OnAction(ViewSet):
    permission_classes = [MayOrder]

    @action(detail=False, methods=["post"])
    @idempotent
    def reorder(self, request: Request) -> Response:
        return order(request)


class PolicyPerAction(IdempotencyMixin, ViewSet):
    permission_classes = [MayOrder]
    idempotency_policy = None

    def create(self, request: Request) -> Response:
        return order(request)

    def get_idempotency_policy(self) -> IdempotencyPolicy | None:
        return IdempotencyPolicy() if self.action == "create" else None


PLACEMENTS = [
    opened("api-view", below_api_view, "atomic_requests"),
    opened("api-view-stacked", POST(idempotent(idempotent(order))), "atomic_requests"),
    opened("api-view-calls-another", calls_another, "atomic_requests"),
    opened("api-view-calls-mixin", calls_mixin, "atomic_requests"),
    opened("api-view-schema", POST(NO_SCHEMA(idempotent(order))), "atomic_requests"),
    opened("api-view-above-schema", above_schema, "atomic_requests"),
    opened(
        "api-view-csrf-exempt", csrf_exempt(POST(idempotent(order))), "atomic_requests"
    ),
    opened(
        "api-view-below-atomic", POST(transaction.atomic(idempotent(order))), "always"
    ),
    permitted(
        "api-view-permission", POST(MAY_ORDER(idempotent(order))), "atomic_requests"
    ),
    permitted(
        "api-view-permission-below",
        above_permission_classes,
        "atomic_requests",
    ),
    permitted("api-view-method", OnMethod.as_view(), "atomic_requests"),
    permitted("api-view-directly", DirectlyOnMethod.as_view(), "atomic_requests"),
    permitted("api-view-dispatch", OnDispatch.as_view()),
    permitted("mixin", MixinOnApiView.as_view()),
    permitted("mixin-and-decorator", MixinAndDecorator.as_view()),
    permitted("mixin-and-dispatch", MixinAndDispatch.as_view()),
    permitted("mixin-generic", Generic.as_view()),
    permitted("mixin-viewset", Orders.as_view({"post": "create"})),
    permitted("mixin-viewset-action", Orders.as_view({"post": "reorder"})),
    permitted("mixin-policy", PolicyPerAction.as_view({"post": "create"})),
    permitted("action", OnAction.as_view({"post": "reorder"}), "atomic_requests"),
]
