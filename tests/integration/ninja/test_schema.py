"""What ninja's schema says of a protected operation, and that its answers hold to it."""

import re
from datetime import timedelta
from typing import Annotated, Any

import pytest
from django.http import HttpRequest
from django.urls import path
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from ninja import NinjaAPI, Schema
from ninja.params.functions import Header
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.contrib.ninja import idempotent
from django_idempotency.core.keys import parse_key
from django_idempotency.exceptions import InvalidKey
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.support.cases import cases

from .exchange import Placed, Wish, new_api, place, serving

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class Error(Schema):
    detail: str


def operation_in(api: NinjaAPI, method: str = "post", at: str = "/") -> dict[str, Any]:
    with serving(api):
        paths: dict[str, Any] = api.get_openapi_schema(path_prefix="")["paths"]
    found: dict[str, Any] = paths[at][method]
    return found


def operation_with(**options: Any) -> dict[str, Any]:
    def operation(request: HttpRequest, wish: Wish) -> Any:
        return place(request, wish)

    api = new_api()
    registered: dict[str, Any] = {"response": {201: Placed, 409: Error}}
    registered |= options.pop("registered", {})
    api.post("/", **registered)(idempotent(**options)(operation))
    return operation_in(api)


def key_in(operation: dict[str, Any]) -> list[dict[str, Any]]:
    found = operation["parameters"]
    return [each for each in found if each["in"] == "header"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("required", [True, False])
def test_key_is_shown_where_it_is_read_and_required_where_it_is(
    method: str, required: bool
) -> None:
    def operation(request: HttpRequest, number: int, page: int = 1) -> Any: ...

    api = new_api()
    protected = idempotent(required=required)(operation)
    api.api_operation([method], "/{number}/", response=Placed)(protected)
    shown = operation_in(api, method.lower(), "/{number}/")

    keys = [each["required"] for each in key_in(shown)]
    assert keys == (
        [] if method == "GET" else [required and method in ("POST", "PATCH")]
    )
    names = {each["name"] for each in shown["parameters"]}
    assert {"number", "page"} <= names
    missing = "`key-missing`" in shown["responses"].get(400, {}).get("description", "")
    assert missing == (keys == [True])


@pytest.mark.parametrize(
    "key", ["K", '"K"', "a,b", '"a,b"', "", "é", "K" * 255, "K" * 256, '"a', "a b"]
)
def test_pattern_of_the_key_is_what_is_taken(key: str) -> None:
    (shown,) = key_in(operation_with())
    try:
        parse_key(key)
    except InvalidKey:
        taken = False
    else:
        taken = True

    assert (re.search(shown["schema"]["pattern"], key) is not None) == taken


KEY = {"in": "header", "name": "idempotency-key", "schema": {"format": "uuid"}}


def by_itself(request: HttpRequest) -> Any: ...


def with_parameter(
    request: HttpRequest, key: Annotated[str, Header(alias="Idempotency-Key")]
) -> Any: ...


@pytest.mark.parametrize(
    ("operation", "extra"),
    [(by_itself, {"parameters": [KEY]}), (with_parameter, {})],
    ids=["openapi_extra", "declared"],
)
def test_key_that_the_project_shows_itself_stands_alone(
    operation: Any, extra: dict[str, Any]
) -> None:
    """Two parameters of one name are no valid schema."""
    api = new_api()
    api.post("/", openapi_extra=extra)(idempotent(operation))
    (shown,) = key_in(operation_in(api))

    assert "pattern" not in shown["schema"]


def test_key_is_not_required_of_a_method_that_has_none() -> None:
    """The methods of one operation share what is shown of it."""
    api = new_api()
    api.api_operation(["GET", "POST"], "/")(idempotent(by_itself))

    assert [each["required"] for each in key_in(operation_in(api))] == [False]


@pytest.mark.parametrize("status", [503, "503"], ids=["number", "text"])
def test_refusals_stand_beside_what_the_project_declares(status: Any) -> None:
    own = {"in": "header", "name": "X-Till", "schema": {}}
    extra = {
        "x-own": True,
        "parameters": [own],
        "responses": {status: {"description": "Closed."}},
    }
    shown = operation_with(registered={"openapi_extra": extra})
    responses = shown["responses"]

    assert {201, 400, 402, 409, 413, 422, 503} <= responses.keys()
    assert "503" not in responses  # or JSON would have it twice
    assert (shown["x-own"], own in shown["parameters"]) == (True, True)
    assert responses[503]["description"] == "Closed."
    assert "application/problem+json" in responses[503]["content"]
    assert responses[409]["content"]["application/json"]["schema"]["$ref"].endswith(
        "Error"
    )
    assert "`in-flight`" in responses[409]["description"]
    assert "Retry-After" in responses[409]["headers"]
    assert "Idempotency-Replayed" in responses[201]["headers"]
    # What ninja itself may answer, such as 422, is of another form.
    assert responses[422]["content"].keys() == {
        "application/json",
        "application/problem+json",
    }


WINDOW = timedelta(seconds=30)


@cases(
    "options, settings_of_project",
    {
        "required": ({}, {}),
        "optional": ({"required": False}, {}),
        "kept for an hour": ({"retention": timedelta(hours=1)}, {}),
        "second click": ({"intent_window": WINDOW}, {}),
        "second click everywhere": ({}, {"IDEMPOTENCY_INTENT_WINDOW": WINDOW}),
        "guests refused": ({}, {"IDEMPOTENCY_ANONYMOUS": "refuse"}),
        "can be asked": (
            {},
            {"MIDDLEWARE": ["django_idempotency.middleware.OutcomeMiddleware"]},
        ),
    },
)
def test_every_schema_says_the_same_of_a_policy(
    options: dict[str, Any], settings_of_project: dict[str, Any], settings: Any
) -> None:
    class Orders(IdempotencyMixin, APIView):
        idempotency_policy = IdempotencyPolicy(**options)

        @extend_schema(request=None, responses={200: None})
        def post(self, request: Any) -> Response:
            return Response()

    for name, value in settings_of_project.items():
        setattr(settings, name, value)
    generator: Any = SchemaGenerator(patterns=[path("", Orders.as_view())])  # type: ignore[no-untyped-call]
    made = generator.get_schema(public=True)
    of_rest = made["paths"]["/"]["post"]
    of_ninja = operation_with(**options, registered={"response": {201: Placed}})

    # Required is left out where it is false.
    of_rest["parameters"] = [{"required": False} | e for e in of_rest["parameters"]]
    assert key_in(of_ninja) == of_rest["parameters"]
    for status in (400, 401, 402, 409, 413, 422, 503):
        shown, theirs = (
            of_ninja["responses"].get(status, {}),
            of_rest["responses"].get(str(status), {}),
        )
        titles = theirs.get("description", "")
        assert shown.get("description", "").endswith(titles)
        assert shown.get("headers") == theirs.get("headers")
    answered = of_ninja["responses"][201]["headers"]
    assert answered == of_rest["responses"]["200"]["headers"]
    problem = made["components"]["schemas"]["IdempotencyProblem"]
    problem_content = of_ninja["responses"][409]["content"]["application/problem+json"]
    assert problem_content["schema"] == problem

    # Where a second click is asked about, it is told; and nowhere else.
    has_window = bool(
        options.get("intent_window") or "INTENT" in str(settings_of_project)
    )
    confirms = [e for e in key_in(of_ninja) if e["name"] == "Idempotency-Confirm"]
    assert [each["required"] for each in confirms] == [False] * has_window
    told = "`possible-duplicate`" in of_ninja["responses"][409]["description"]
    assert told == has_window
