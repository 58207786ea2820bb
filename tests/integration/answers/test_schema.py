"""The OpenAPI schema that drf-spectacular makes, with nothing configured."""

import re
from typing import Any

import pytest
from django.test import override_settings
from django.urls import include, path

pytest.importorskip("drf_spectacular")

from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from drf_spectacular.validation import validate_schema
from rest_framework import serializers
from rest_framework.decorators import action, api_view
from rest_framework.generics import (
    CreateAPIView,
    GenericAPIView,
    RetrieveUpdateDestroyAPIView,
)
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.schemas.openapi import AutoSchema as OtherAutoSchema
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet, ModelViewSet

from django_idempotency.contrib.spectacular import ProtectedViews
from django_idempotency.core.keys import PATTERN
from django_idempotency.decorators import idempotent
from django_idempotency.http import problems
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.integration.rest.exchange import OrderSerializer
from tests.support.cases import cases
from tests.testapp.models import Order


class Receipt(serializers.Serializer[Any]):
    text = serializers.CharField()


class OrderGeneric(GenericAPIView[Order]):
    queryset = Order.objects.all()
    serializer_class = OrderSerializer


class Orders(IdempotencyMixin, OrderGeneric, ModelViewSet[Order]):
    """Orders, each placed once."""

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
class DescribedOrders(IdempotencyMixin, OrderGeneric, ModelViewSet[Order]): ...


class Payments(OrderGeneric, GenericViewSet[Order]):
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


class PlaceOrder(IdempotencyMixin, OrderGeneric, CreateAPIView[Order]): ...


class OneOrder(IdempotencyMixin, OrderGeneric, RetrieveUpdateDestroyAPIView[Order]): ...


class UnprotectedOrder(OrderGeneric, CreateAPIView[Order]):
    """An order as it comes."""


@extend_schema(request=OrderSerializer, responses={201: OrderSerializer})
@api_view(["GET", "POST"])
@idempotent
def by_function(request: Request) -> Response:
    """Place an order by a function."""
    return Response()


class ByMethod(APIView):
    @extend_schema(
        request=OrderSerializer,
        responses={
            201: OrderSerializer,
            409: Receipt,
            422: None,
            (400, "application/problem+json"): Receipt,
        },
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


class Renamed(IdempotencyMixin, OrderGeneric, CreateAPIView[Order]): ...


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


PROBLEM = {"$ref": "#/components/schemas/IdempotencyProblem"}
RECEIPT = {"$ref": "#/components/schemas/Receipt"}

# Whether the key has to be there; ``None``: none is honoured.
OPERATIONS: dict[tuple[str, str], bool | None] = {
    ("post", "/orders/"): True,
    ("patch", "/orders/{id}/"): True,
    ("post", "/orders/{id}/cancel/"): True,
    ("post", "/described-orders/"): True,
    ("post", "/payments/{id}/pay/"): True,
    ("post", "/place/"): True,
    ("patch", "/order/{id}/"): True,
    ("post", "/function/"): True,
    ("post", "/method/"): True,
    ("post", "/method-above/"): True,
    ("post", "/orders/{id}/note/"): False,
    ("put", "/orders/{id}/"): False,
    ("delete", "/orders/{id}/"): False,
    ("put", "/order/{id}/"): False,
    ("delete", "/order/{id}/"): False,
    ("post", "/payments/{id}/settle/"): False,
    ("post", "/renamed/"): None,
    ("get", "/order/{id}/"): None,
    ("get", "/orders/"): None,
    ("get", "/orders/{id}/"): None,
    ("post", "/orders/{id}/preview/"): None,
    ("post", "/payments/{id}/unprotected/"): None,
    ("get", "/function/"): None,
    ("post", "/unprotected/"): None,
}
every_operation = pytest.mark.parametrize(
    ("method", "path", "required"),
    [(*operation, required) for operation, required in OPERATIONS.items()],
)


def schema() -> dict[str, Any]:
    generator: Any = SchemaGenerator
    made: dict[str, Any] = generator(urlconf=__name__).get_schema(public=True)
    return made


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return schema()


def key_parameters(of: dict[str, Any]) -> list[tuple[str, bool]]:
    """Where the key is sent, and whether it has to be."""
    return [
        (each["in"], each.get("required", False))
        for each in of.get("parameters", ())
        if each["name"] == "Idempotency-Key"
    ]


def _kinds(content: dict[str, Any]) -> list[Any]:
    described = content.get("application/problem+json", {}).get("schema", {})
    kinds: list[Any] = described.get("anyOf", [described])
    return kinds


def problem_statuses(of: dict[str, Any]) -> list[str]:
    """The statuses that are described by a problem document of ours."""
    return sorted(
        status
        for status, response in of["responses"].items()
        if PROBLEM in _kinds(response.get("content", {}))
    )


@every_operation
def test_key_and_every_status_of_a_refusal_are_described_as_the_policy_says(
    method: str, path: str, required: bool | None, made: dict[str, Any]
) -> None:
    described = made["paths"][path][method]
    expected = [] if required is None else [("header", required)]
    statuses = [] if required is None else ["400", "402", "409", "413", "422", "503"]

    assert key_parameters(described) == expected
    assert problem_statuses(described) == statuses


def test_document_of_a_missing_key_is_only_where_one_is_required(
    made: dict[str, Any],
) -> None:
    says = {
        path: "`key-missing`"
        in made["paths"][path]["post"]["responses"]["400"]["description"]
        for path in ("/orders/", "/orders/{id}/note/")
    }

    assert says == {"/orders/": True, "/orders/{id}/note/": False}


@pytest.mark.parametrize("status", ["409", "503"])
def test_answers_that_pass_by_themselves_show_when_to_come_back(
    status: str, made: dict[str, Any]
) -> None:
    response = made["paths"]["/orders/"]["post"]["responses"][status]

    assert response["headers"]["Retry-After"]["schema"] == {"type": "integer"}


@pytest.mark.parametrize(
    "mark", ["Idempotency-Replayed", "Idempotency-Ended", "Idempotency-Expires"]
)
def test_marks_are_told_of_what_the_view_answers(
    made: dict[str, Any], mark: str
) -> None:
    marked = {
        status
        for status, response in made["paths"]["/orders/"]["post"]["responses"].items()
        if mark in response.get("headers", {})
    }

    assert marked == {"201"}


@pytest.mark.parametrize(
    ("member", "values"),
    [
        ("code", {problem.code for problem in problems.PROBLEMS}),
        ("retry", set(problems.RETRY.values())),
    ],
)
def test_component_names_every_value(
    member: str, values: set[str], made: dict[str, Any]
) -> None:
    component = made["components"]["schemas"]["IdempotencyProblem"]

    named = re.findall(r"`(.*?)`", component["properties"][member]["description"])
    assert set(named) == values
    assert member in component["required"]


def test_parameters_and_answers_of_the_view_itself_stay(made: dict[str, Any]) -> None:
    described = made["paths"]["/method/"]["post"]
    names = {each["name"] for each in described["parameters"]}

    assert names == {"X-Shop", "Idempotency-Key"}


@cases(
    "status, own",
    {
        "described": ("409", {"application/json": {"schema": RECEIPT}}),
        "described-as-empty": ("422", {}),
        "not-described": ("503", {"application/json": {"schema": {}}}),
        "described-as-problem": ("400", {}),
    },
)
def test_refusals_stand_beside_errors_of_the_view_itself(
    status: str, own: dict[str, Any], made: dict[str, Any]
) -> None:
    """And where it says nothing of them, they may be whatever they are."""
    ours = {"anyOf": [RECEIPT, PROBLEM]} if status == "400" else PROBLEM

    assert made["paths"]["/method/"]["post"]["responses"][status]["content"] == {
        **own,
        "application/problem+json": {"schema": ours},
    }


@every_operation
def test_words_of_ours_describe_no_view_of_the_project(
    method: str, path: str, required: bool | None, made: dict[str, Any]
) -> None:
    description = made["paths"][path][method].get("description", "")

    assert description in (
        "",
        "Orders, each placed once.",
        "Place an order by a function.",
        "An order as it comes.",
    )


def test_key_is_described_as_it_is_read(made: dict[str, Any]) -> None:
    [parameter] = made["paths"]["/place/"]["post"]["parameters"]

    assert parameter["schema"] == {"type": "string", "pattern": PATTERN}
    assert "for 2 days" in parameter["description"]


@pytest.mark.parametrize(
    ("path", "part", "text"),
    [
        ("/orders/{id}/cancel/", "summary", "Cancel it"),
        ("/described-orders/", "summary", "Place one"),
        ("/payments/{id}/settle/", "summary", "Settle it"),
        ("/method-above/", "summary", "Below"),
        ("/renamed/", "summary", "Ours"),  # an extension of the project goes first
        ("/orders/", "description", "Orders, each placed once."),
        ("/function/", "description", "Place an order by a function."),
        ("/unprotected/", "description", "An order as it comes."),
    ],
)
def test_what_the_project_says_of_an_operation_stays(
    path: str, part: str, text: str, made: dict[str, Any]
) -> None:
    assert made["paths"][path]["post"][part] == text


@pytest.fixture
def without_us(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    others = [each for each in ProtectedViews._registry if each is not ProtectedViews]
    monkeypatch.setattr(OpenApiViewExtension, "_registry", others)
    return schema()


def test_components_of_the_project_stay_as_they_are(
    made: dict[str, Any], without_us: dict[str, Any]
) -> None:
    ours = dict(made["components"]["schemas"])
    del ours["IdempotencyProblem"]

    assert ours == without_us["components"]["schemas"]


@every_operation
def test_operation_is_only_added_to_and_only_where_it_is_protected(
    method: str,
    path: str,
    required: bool | None,
    made: dict[str, Any],
    without_us: dict[str, Any],
) -> None:
    with_us, bare = (each["paths"][path][method] for each in (made, without_us))

    assert contains(with_us, bare)
    assert (with_us == bare) is (required is None)


def contains(whole: Any, part: Any) -> bool:
    """Whether everything in one document is in the other; texts may go on."""
    match part:
        case dict():
            return any(contains(each, part) for each in whole.get("anyOf", ())) or all(
                contains(whole.get(key), each) for key, each in part.items()
            )
        case list():
            return all(each in whole for each in part)
        case str():
            return isinstance(whole, str) and whole.startswith(part)
        case _:
            return bool(whole == part)


@override_settings(IDEMPOTENCY_HEADER="X-Request-Token", IDEMPOTENCY_REQUIRED=False)
def test_settings_of_the_project_are_shown() -> None:
    [parameter] = schema()["paths"]["/place/"]["post"]["parameters"]

    assert parameter["name"] == "X-Request-Token"
    assert not parameter.get("required", False)


@pytest.mark.parametrize("asked", [True, False])
def test_key_says_how_to_ask_where_one_can(asked: bool, settings: Any) -> None:
    if asked:
        settings.MIDDLEWARE = ["django_idempotency.middleware.OutcomeMiddleware"]

    [parameter] = schema()["paths"]["/place/"]["post"]["parameters"]

    assert ("`Idempotency-Ask: POST`" in parameter["description"]) is asked


def test_schema_is_valid_and_the_same_each_time(made: dict[str, Any]) -> None:
    validate: Any = validate_schema
    validate(made)

    assert schema() == made


def test_views_are_left_as_they_were(made: dict[str, Any]) -> None:
    """The replacement is for the generator; what serves requests is the project's."""
    assert PlaceOrder.as_view().cls is PlaceOrder


def test_schema_of_another_kind_is_left_for_the_generator_to_refuse() -> None:
    """Its own sentence says which setting is missing; ours would be in the way."""

    class Foreign(APIView):
        schema = OtherAutoSchema()

    # How it is made differs from version to version.
    replacement: Any = object.__new__(ProtectedViews)
    replacement.target = Foreign

    assert replacement.view_replacement() is Foreign
