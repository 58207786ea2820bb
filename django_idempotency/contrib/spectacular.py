"""drf-spectacular: protected views show their key and their problem documents.

Imported by the app's configuration where drf-spectacular is installed; there is nothing
to configure. An `OpenApiViewExtension` of the project for the same view wins.
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent, get_class
from rest_framework.views import APIView

from django_idempotency.http.boundary import (
    METHODS_THAT_REQUIRE_KEYS,
    METHODS_WITH_KEYS,
)
from django_idempotency.http.placements import protected_functions
from django_idempotency.http.problems import Problem
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin

from .described import (
    PROBLEM_JSON,
    headers_of_answers,
    headers_of_problems,
    parameters,
    problem_schema,
    problems_by_status,
    titles_of,
)

__all__ = ["ProtectedViews"]

PROBLEM = "IdempotencyProblem"


class ProtectedViews(OpenApiViewExtension):  # type: ignore[no-untyped-call]
    """Adds the key and the problem documents to the schema of protected views."""

    target_class = "rest_framework.views.APIView"
    match_subclasses = True
    priority = -10

    def view_replacement(self) -> type[APIView]:
        view: type[APIView] = self.target
        if not isinstance(view.schema, AutoSchema):
            return view
        return type(view.__name__, (view,), {"schema": _with_key(view.schema)})


class _KeySchema(AutoSchema):
    def __set__(self, instance: Any, other: Any) -> None:
        """Keep our part when ``@extend_schema`` sets another schema."""
        super().__set__(instance, other and _with_key(other))

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        policy = self._policy()
        if operation is not None and policy is not None:
            self._describe(operation, policy)
        return operation

    def _policy(self) -> IdempotencyPolicy | None:
        if self.method not in METHODS_WITH_KEYS:
            return None
        view = self.view
        if isinstance(view, IdempotencyMixin):
            return view.get_idempotency_policy()
        name = getattr(view, "action", None) or self.method.lower()
        # Looked up on the class: a bound method hides the marked function.
        handler = getattr(type(view), name)
        for function in protected_functions(handler):
            policy: IdempotencyPolicy = function.idempotency_policy  # type: ignore[attr-defined]
            return policy
        return None

    def _describe(self, operation: dict[str, Any], policy: IdempotencyPolicy) -> None:
        required = policy.key_required and self.method in METHODS_THAT_REQUIRE_KEYS
        operation.setdefault("parameters", []).extend(
            parameters(policy, is_required=required, methods=[self.method])
        )
        for response in operation["responses"].values():
            response.setdefault("headers", {}).update(headers_of_answers())
        self.registry.register_on_missing(_problem_component())
        by_status = problems_by_status(policy, is_required=required)
        for status, answers in by_status.items():
            self._add_problem(operation["responses"], status, answers)

    def _add_problem(
        self, responses: dict[str, Any], status: int, answers: list[Problem]
    ) -> None:
        response = responses.get(str(status))
        if response is None:
            # The view says nothing of its own errors, which may be of any form.
            own: dict[str, Any] = {
                each: {"schema": {}} for each in self.map_renderers("media_type")
            }
            response = responses[str(status)] = {"description": "", "content": own}
        # A lazy translation, where it is the framework's own.
        description = str(response.get("description", ""))
        response["description"] = f"{description} {titles_of(answers)}".lstrip()
        content = response.setdefault("content", {})
        kinds = [_problem_component().ref]
        if PROBLEM_JSON in content:
            kinds.insert(0, content[PROBLEM_JSON]["schema"])
        schema = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
        content[PROBLEM_JSON] = {**content.get(PROBLEM_JSON, {}), "schema": schema}
        if headers := headers_of_problems(answers):
            response.setdefault("headers", {}).update(headers)


def _with_key(schema: Any) -> AutoSchema:
    """Accept a schema, its class, or the weak proxy that the generator makes of it."""
    kind: type[AutoSchema] = get_class(schema)
    keyed: AutoSchema = type(kind.__name__, (_KeySchema, kind), {})()
    return keyed


def _problem_component() -> ResolvedComponent:
    return ResolvedComponent(  # type: ignore[no-untyped-call]
        name=PROBLEM,
        type=ResolvedComponent.SCHEMA,
        object=PROBLEM,
        schema=problem_schema(),
    )
