"""What an OpenAPI schema says of protected operations, whoever makes it.

Read when a schema is made, so that the settings of the project are shown.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django_idempotency.conf import conf
from django_idempotency.core.keys import PATTERN
from django_idempotency.http import problems
from django_idempotency.http.asking import ASK_HEADER
from django_idempotency.http.duplicates import CONFIRM_HEADER
from django_idempotency.http.endings import ENDED_HEADER, EXPIRES_HEADER
from django_idempotency.http.middleware import has_middleware
from django_idempotency.http.problems import Problem
from django_idempotency.middleware import OutcomeMiddleware
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.stories.telling import duration

PROBLEM_JSON = "application/problem+json"


def parameters(
    policy: IdempotencyPolicy, *, is_required: bool, methods: Collection[str]
) -> list[dict[str, Any]]:
    described = [_key(policy, is_required, methods)]
    if policy.effective_intent_window:
        described.append(_confirmation(policy))
    return described


def _key(
    policy: IdempotencyPolicy, is_required: bool, methods: Collection[str]
) -> dict[str, Any]:
    asked = ""
    if has_middleware(OutcomeMiddleware):
        questions = " or ".join(f"`{ASK_HEADER}: {each}`" for each in sorted(methods))
        asked = (
            f" What became of it is told to a GET with the same key and {questions}."
        )
    return {
        "in": "header",
        "name": conf.IDEMPOTENCY_HEADER,
        "required": is_required,
        "schema": {"type": "string", "pattern": PATTERN},
        "description": "A random key for this operation, such as a UUID, made before the "
        "first attempt and sent again with each retry, which gets the first answer for "
        f"{duration(policy.effective_retention)}.{asked}",
    }


def _confirmation(policy: IdempotencyPolicy) -> dict[str, Any]:
    return {
        "in": "header",
        "name": CONFIRM_HEADER,
        "required": False,
        "schema": {"type": "string"},
        "description": "Says that another one is meant, after "
        f"`{problems.POSSIBLE_DUPLICATE.code}`: its `first.reference`, sent with the same "
        "request and the same key. The same under another key is asked about for "
        f"{duration(policy.effective_intent_window)}.",
    }


def problems_by_status(
    policy: IdempotencyPolicy, *, is_required: bool
) -> dict[int, list[Problem]]:
    """Return what an operation can be answered with in place of its own answer."""
    absent = {*problems.OF_QUESTIONS}
    if not is_required:
        absent.add(problems.KEY_MISSING)
    if conf.IDEMPOTENCY_ANONYMOUS != "refuse":
        absent.add(problems.SIGN_IN_REQUIRED)
    if not policy.effective_intent_window:
        absent.add(problems.POSSIBLE_DUPLICATE)
    by_status: dict[int, list[Problem]] = {}
    for problem in problems.PROBLEMS:
        if problem not in absent:
            by_status.setdefault(problem.status, []).append(problem)
    return by_status


def titles_of(answers: list[Problem]) -> str:
    return "; ".join(f"`{each.code}`: {each.title}" for each in answers) + "."


def headers_of_answers() -> dict[str, Any]:
    """Return what the operation's own answers may have."""
    marks = {
        conf.IDEMPOTENCY_REPLAYED_HEADER: "on a replay of the first answer",
        ENDED_HEADER: "on an answer after which the key is used up",
    }
    described: dict[str, Any] = {
        name: {
            "description": f"`true` {description}.",
            "schema": {"type": "string", "enum": ["true"]},
        }
        for name, description in marks.items()
    }
    described[EXPIRES_HEADER] = {
        "description": "Until when a repeat gets this answer, as an HTTP date.",
        "schema": {"type": "string"},
    }
    return described


def headers_of_problems(answers: list[Problem]) -> dict[str, Any]:
    if not any(each.retry_after_seconds for each in answers):
        return {}
    return {
        "Retry-After": {
            "description": "Seconds to wait before sending the request again.",
            "schema": {"type": "integer"},
        }
    }


def problem_schema() -> dict[str, Any]:
    codes = ", ".join(f"`{problem.code}`" for problem in problems.PROBLEMS)
    return {
        "type": "object",
        "description": "A problem document (RFC 9457).",
        "properties": {
            "type": {"type": "string", "format": "uri"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            # Not an enum: drf-spectacular would make it a component named CodeEnum and
            # rename the component of a project that has one of that name.
            "code": {"type": "string", "description": f"One of {codes}."},
            "retry": {
                "type": "string",
                "description": "What a program may do by itself. `same-key`: send the "
                "same request again with the same key; `new-key`: mend it and take a "
                "new key; `no`: neither.",
            },
            "reference": {
                "type": "string",
                "description": "What people call the operation by.",
            },
            "first": {
                "type": "object",
                "description": "What a possible duplicate may be one of.",
                "properties": {
                    "reference": {"type": "string"},
                    "age_seconds": {"type": "integer"},
                    "about": {"type": "string"},
                },
                "required": ["reference", "age_seconds"],
            },
        },
        "required": ["type", "title", "status", "detail", "code", "retry"],
    }
