"""The key and the problem documents in the schema that ninja makes of its operations."""

from __future__ import annotations

from http.client import responses
from typing import Any

from ninja.operation import Operation

from django_idempotency.contrib.described import (
    PROBLEM_JSON,
    headers_of_answers,
    headers_of_problems,
    parameters,
    problem_schema,
    problems_by_status,
    titles_of,
)
from django_idempotency.http.boundary import (
    METHODS_THAT_REQUIRE_KEYS,
    METHODS_WITH_KEYS,
)
from django_idempotency.policies import IdempotencyPolicy

UNDECLARED = "application/json"
"""What an operation may answer of its own accord, in any form."""


def describe(operation: Operation, *, policy: IdempotencyPolicy) -> None:
    """Add ours to the operation's ``openapi_extra``; what the project has put there wins.

    Called by ninja when it registers the operation.
    """
    methods = set(operation.methods)
    if not methods & METHODS_WITH_KEYS:
        return
    # What is shown is shown of all methods.
    is_required = policy.key_required and methods <= METHODS_THAT_REQUIRE_KEYS
    taken = _headers_of(operation)
    described = parameters(
        policy, is_required=is_required, methods=methods & METHODS_WITH_KEYS
    )
    extra: dict[str, Any] = {
        "parameters": [each for each in described if each["name"].lower() not in taken],
        "responses": _responses(operation, policy, is_required),
    }
    _merge(extra, operation.openapi_extra or {})
    operation.openapi_extra = extra


def _headers_of(operation: Operation) -> set[str]:
    """Return the headers that the project shows by itself, in lower case."""
    names = {
        name.lower()
        for model in operation.models
        if model.__ninja_param_source__ == "header"
        for name in model.__ninja_flatten_map__
    }
    for each in (operation.openapi_extra or {}).get("parameters", []):
        if each.get("in") == "header":
            names.add(each["name"].lower())
    return names


def _responses(
    operation: Operation, policy: IdempotencyPolicy, is_required: bool
) -> dict[int, Any]:
    declared = {each for each in operation.response_models if isinstance(each, int)}
    described: dict[int, Any] = {
        status: {"headers": headers_of_answers()} for status in declared
    }
    by_status = problems_by_status(policy, is_required=is_required)
    for status, answers in by_status.items():
        response = described.setdefault(
            status, {"content": {UNDECLARED: {"schema": {}}}}
        )
        response["description"] = f"{responses[status]}. {titles_of(answers)}"
        response.setdefault("content", {})[PROBLEM_JSON] = {"schema": problem_schema()}
        if headers := headers_of_problems(answers):
            response.setdefault("headers", {}).update(headers)
    return described


def _merge(ours: dict[Any, Any], theirs: dict[Any, Any]) -> None:
    """Merge as ninja does with what it finds in ``openapi_extra``."""
    same = {str(each): each for each in ours}  # a status may be written as text
    for written, value in theirs.items():
        name = same.get(str(written), written)
        if isinstance(value, dict) and isinstance(ours.get(name), dict):
            _merge(ours[name], value)
        elif isinstance(value, list) and isinstance(ours.get(name), list):
            ours[name] = [*ours[name], *value]
        else:
            ours[name] = value
