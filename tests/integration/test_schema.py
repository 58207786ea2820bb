"""The OpenAPI schema that drf-spectacular makes, with nothing configured."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import override_settings

pytest.importorskip("drf_spectacular")

from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from rest_framework.schemas.openapi import AutoSchema as OtherAutoSchema
from rest_framework.views import APIView

from django_idempotency import problems
from django_idempotency.contrib.spectacular import ProtectedViews

from . import schema_views

URLS = "tests.integration.schema_views"
PROBLEM = {"$ref": "#/components/schemas/IdempotencyProblem"}

REQUIRED = [
    ("post", "/orders/"),
    ("patch", "/orders/{id}/"),
    ("post", "/orders/{id}/cancel/"),
    ("post", "/described-orders/"),
    ("post", "/payments/{id}/pay/"),
    ("post", "/place/"),
    ("patch", "/order/{id}/"),
    ("post", "/function/"),
    ("post", "/method/"),
    ("post", "/method-above/"),
]
OPTIONAL = [
    ("post", "/orders/{id}/note/"),
    ("put", "/orders/{id}/"),
    ("delete", "/orders/{id}/"),
    ("put", "/order/{id}/"),
    ("delete", "/order/{id}/"),
    ("post", "/payments/{id}/settle/"),
]
WITHOUT = [
    ("get", "/orders/"),
    ("get", "/orders/{id}/"),
    ("post", "/orders/{id}/preview/"),
    ("post", "/payments/{id}/unprotected/"),
    ("get", "/function/"),
    ("post", "/unprotected/"),
]


def schema(urlconf: str = URLS) -> dict[str, Any]:
    generator: Any = SchemaGenerator
    made: dict[str, Any] = generator(urlconf=urlconf).get_schema(public=True)
    return made


def is_valid(made: dict[str, Any]) -> bool:
    """Raises, and says what isn't."""
    validate: Any = validate_schema
    validate(made)
    return True


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return schema()


def operation(of: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    found: dict[str, Any] = of["paths"][path][method]
    return found


def key_parameter(of: dict[str, Any]) -> dict[str, Any] | None:
    found = [
        each for each in of.get("parameters", ()) if each["name"] == "Idempotency-Key"
    ]
    return found[0] if found else None


def problem_statuses(of: dict[str, Any]) -> list[str]:
    """The statuses that are described by a problem document of ours."""
    return sorted(
        status
        for status, response in of["responses"].items()
        if response.get("content", {}).get("application/problem+json")
        == {"schema": PROBLEM}
    )


def test_schema_is_valid(made: dict[str, Any]) -> None:
    assert is_valid(made)


@pytest.mark.demo
def test_schema_of_the_example_project_is_valid() -> None:
    """With the demo's tests, since they bring what the example needs."""
    assert is_valid(schema("example_project.urls"))


@pytest.mark.parametrize(("method", "path"), REQUIRED)
def test_key_is_required_where_the_policy_says_so(
    method: str, path: str, made: dict[str, Any]
) -> None:
    parameter = key_parameter(operation(made, method, path))

    assert parameter is not None
    assert (parameter["in"], parameter["required"]) == ("header", True)


@pytest.mark.parametrize(("method", "path"), OPTIONAL)
def test_key_is_optional_where_it_may_be_left_out(
    method: str, path: str, made: dict[str, Any]
) -> None:
    parameter = key_parameter(operation(made, method, path))

    assert parameter is not None
    assert not parameter.get("required", False)


@pytest.mark.parametrize(("method", "path"), WITHOUT)
def test_key_is_not_mentioned_where_none_is_honoured(
    method: str, path: str, made: dict[str, Any]
) -> None:
    assert key_parameter(operation(made, method, path)) is None


@pytest.mark.parametrize(("method", "path"), REQUIRED + OPTIONAL)
def test_key_is_mentioned_once(method: str, path: str, made: dict[str, Any]) -> None:
    parameters = operation(made, method, path)["parameters"]
    names = [each["name"] for each in parameters]

    assert names.count("Idempotency-Key") == 1


@pytest.mark.parametrize(("method", "path"), [each for each in REQUIRED + OPTIONAL
                                              if each[1] != "/method/"])  # fmt: skip
def test_every_status_of_a_refusal_has_its_document(
    method: str, path: str, made: dict[str, Any]
) -> None:
    assert problem_statuses(operation(made, method, path)) == [
        "400", "409", "422", "503",
    ]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), WITHOUT)
def test_unprotected_operations_have_no_document(
    method: str, path: str, made: dict[str, Any]
) -> None:
    assert problem_statuses(operation(made, method, path)) == []


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
    response = operation(made, "post", "/orders/")["responses"][status]

    assert response["headers"]["Retry-After"]["schema"] == {"type": "integer"}


def test_replays_are_marked_on_what_the_view_answers(made: dict[str, Any]) -> None:
    marked = {
        status
        for status, response in operation(made, "post", "/orders/")["responses"].items()
        if "Idempotency-Replayed" in response.get("headers", {})
    }

    assert marked == {"201"}


def test_component_names_every_code(made: dict[str, Any]) -> None:
    code = made["components"]["schemas"]["IdempotencyProblem"]["properties"]["code"]

    assert re.findall(r"`(.*?)`", code["description"]) == [
        problem.code for problem in problems.PROBLEMS
    ]


def test_answers_of_the_view_itself_stay(made: dict[str, Any]) -> None:
    """What a view says about its own 409 is not overwritten."""
    response = operation(made, "post", "/method/")["responses"]["409"]

    assert response["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/Receipt"}},
        "application/problem+json": {"schema": PROBLEM},
    }


def test_parameters_of_the_view_itself_stay(made: dict[str, Any]) -> None:
    names = {each["name"] for each in operation(made, "post", "/method/")["parameters"]}

    assert names == {"X-Shop", "Idempotency-Key"}


@pytest.mark.parametrize(
    ("path", "summary"),
    [
        ("/orders/{id}/cancel/", "Cancel it"),
        ("/described-orders/", "Place one"),
        ("/payments/{id}/settle/", "Settle it"),
        ("/method-above/", "Below"),
    ],
)
def test_extended_schema_keeps_what_it_says(
    path: str, summary: str, made: dict[str, Any]
) -> None:
    assert operation(made, "post", path)["summary"] == summary


@pytest.mark.parametrize(
    ("path", "description"),
    [
        ("/orders/", "Orders, each placed once."),
        ("/function/", "Place an order by a function."),
        ("/unprotected/", "An order as it comes."),
    ],
)
def test_description_is_still_the_docstring(
    path: str, description: str, made: dict[str, Any]
) -> None:
    assert operation(made, "post", path)["description"] == description


def test_extension_of_the_project_goes_first(made: dict[str, Any]) -> None:
    assert operation(made, "post", "/renamed/")["summary"] == "Ours"


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


@pytest.mark.parametrize(("method", "path"), WITHOUT)
def test_unprotected_operation_stays_as_it_is(
    method: str, path: str, made: dict[str, Any], without_us: dict[str, Any]
) -> None:
    assert operation(made, method, path) == operation(without_us, method, path)


@pytest.mark.parametrize(("method", "path"), REQUIRED + OPTIONAL)
def test_protected_operation_is_only_added_to(
    method: str, path: str, made: dict[str, Any], without_us: dict[str, Any]
) -> None:
    assert contains(operation(made, method, path), operation(without_us, method, path))


def contains(whole: Any, part: Any) -> bool:
    """Whether everything in one document is in the other; texts may go on."""
    match part:
        case dict():
            return all(contains(whole.get(key), each) for key, each in part.items())
        case list():
            return all(each in whole for each in part)
        case str():
            return isinstance(whole, str) and whole.startswith(part)
        case _:
            return bool(whole == part)


@override_settings(IDEMPOTENCY_HEADER="X-Request-Token")
def test_configured_header_is_shown() -> None:
    names = {
        each["name"] for each in operation(schema(), "post", "/place/")["parameters"]
    }

    assert names == {"X-Request-Token"}


@override_settings(IDEMPOTENCY_REQUIRED=False)
def test_rolling_out_without_required_keys_is_shown() -> None:
    parameter = key_parameter(operation(schema(), "post", "/place/"))

    assert parameter is not None
    assert not parameter.get("required", False)


def test_making_the_schema_twice_gives_the_same(made: dict[str, Any]) -> None:
    assert schema() == made


def test_views_are_left_as_they_were(made: dict[str, Any]) -> None:
    """The replacement is for the generator; what serves requests is the project's."""
    assert schema_views.PlaceOrder.as_view().cls is schema_views.PlaceOrder


def test_schema_of_another_kind_is_left_for_the_generator_to_refuse() -> None:
    """Its own sentence says which setting is missing; ours would be in the way."""

    class Foreign(APIView):
        schema = OtherAutoSchema()

    replacement: Any = ProtectedViews(Foreign.as_view())  # type: ignore[no-untyped-call]

    assert replacement.view_replacement() is Foreign
