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

from django_idempotency.conf import conf
from django_idempotency.core.keys import PATTERN
from django_idempotency.http import problems
from django_idempotency.http.asking import ASK_HEADER
from django_idempotency.http.boundary import (
    METHODS_THAT_REQUIRE_KEYS,
    METHODS_WITH_KEYS,
)
from django_idempotency.http.endings import ENDED_HEADER, EXPIRES_HEADER
from django_idempotency.http.middleware import has_middleware
from django_idempotency.http.placements import protected_functions
from django_idempotency.http.problems import Problem
from django_idempotency.middleware import OutcomeMiddleware
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.stories.telling import duration

__all__ = ["ProtectedViews"]

PROBLEM = "IdempotencyProblem"
PROBLEM_JSON = "application/problem+json"


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
        operation.setdefault("parameters", []).append(
            _key_parameter(policy, required, self.method)
        )
        for response in operation["responses"].values():
            for name, description in {
                conf.IDEMPOTENCY_REPLAYED_HEADER: "on a replay of the first answer",
                ENDED_HEADER: "on an answer after which the key is used up",
            }.items():
                response.setdefault("headers", {})[name] = {
                    "description": f"`true` {description}.",
                    "schema": {"type": "string", "enum": ["true"]},
                }
            response["headers"][EXPIRES_HEADER] = {
                "description": "Until when a repeat gets this answer, as an HTTP date.",
                "schema": {"type": "string"},
            }
        self.registry.register_on_missing(_problem_component())
        for status, answers in _by_status(required).items():
            self._add_problem(operation["responses"], status, answers)

    def _add_problem(
        self, responses: dict[str, Any], status: int, answers: list[Problem]
    ) -> None:
        titles = "; ".join(f"`{each.code}`: {each.title}" for each in answers)
        response = responses.get(str(status))
        if response is None:
            # The view says nothing of its own errors, which may be of any form.
            own: dict[str, Any] = {
                each: {"schema": {}} for each in self.map_renderers("media_type")
            }
            response = responses[str(status)] = {"description": "", "content": own}
        # A lazy translation, where it is the framework's own.
        description = str(response.get("description", ""))
        response["description"] = f"{description} {titles}.".lstrip()
        content = response.setdefault("content", {})
        kinds = [_problem_component().ref]
        if PROBLEM_JSON in content:
            kinds.insert(0, content[PROBLEM_JSON]["schema"])
        schema = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
        content[PROBLEM_JSON] = {**content.get(PROBLEM_JSON, {}), "schema": schema}
        if any(each.retry_after_seconds for each in answers):
            response.setdefault("headers", {})["Retry-After"] = {
                "description": "Seconds to wait before sending the request again.",
                "schema": {"type": "integer"},
            }


def _with_key(schema: Any) -> AutoSchema:
    """Accept a schema, its class, or the weak proxy that the generator makes of it."""
    kind: type[AutoSchema] = get_class(schema)
    keyed: AutoSchema = type(kind.__name__, (_KeySchema, kind), {})()
    return keyed


def _key_parameter(
    policy: IdempotencyPolicy, required: bool, method: str
) -> dict[str, Any]:
    asked = (
        f" What became of it is told to a GET with the same key and `{ASK_HEADER}: "
        f"{method}`."
        if has_middleware(OutcomeMiddleware)
        else ""
    )
    return {
        "in": "header",
        "name": conf.IDEMPOTENCY_HEADER,
        "required": required,
        "schema": {"type": "string", "pattern": PATTERN},
        "description": "A random key for this operation, such as a UUID, made before the "
        "first attempt and sent again with each retry, which gets the first answer for "
        f"{duration(policy.effective_retention)}.{asked}",
    }


def _by_status(key_required: bool) -> dict[int, list[Problem]]:
    by_status: dict[int, list[Problem]] = {}
    absent = {*problems.OF_QUESTIONS}
    if not key_required:
        absent.add(problems.KEY_MISSING)
    if conf.IDEMPOTENCY_ANONYMOUS != "refuse":
        absent.add(problems.SIGN_IN_REQUIRED)
    for problem in problems.PROBLEMS:
        if problem not in absent:
            by_status.setdefault(problem.status, []).append(problem)
    return by_status


def _problem_component() -> ResolvedComponent:
    codes = ", ".join(f"`{problem.code}`" for problem in problems.PROBLEMS)
    return ResolvedComponent(  # type: ignore[no-untyped-call]
        name=PROBLEM,
        type=ResolvedComponent.SCHEMA,
        object=PROBLEM,
        schema={
            "type": "object",
            "description": "A problem document (RFC 9457).",
            "properties": {
                "type": {"type": "string", "format": "uri"},
                "title": {"type": "string"},
                "status": {"type": "integer"},
                "detail": {"type": "string"},
                # Not an enum: drf-spectacular would make it a component named CodeEnum
                # and rename the component of a project that has one of that name.
                "code": {"type": "string", "description": f"One of {codes}."},
                "retry": {
                    "type": "string",
                    "description": "What a program may do by itself. `same-key`: send the "
                    "same request again with the same key; `new-key`: mend it and take a "
                    "new key; `no`: neither.",
                },
            },
            "required": ["type", "title", "status", "detail", "code", "retry"],
        },
    )
