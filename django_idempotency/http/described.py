"""What an OpenAPI schema says of keys and of problem documents, whoever makes it."""

from __future__ import annotations

from typing import Any

from django_idempotency.conf import conf
from django_idempotency.core.keys import PATTERN
from django_idempotency.policies import IdempotencyPolicy

from . import problems
from .endings import ENDED_HEADER
from .problems import Problem

PROBLEM_JSON = "application/problem+json"


def key_parameter(policy: IdempotencyPolicy, *, is_required: bool) -> dict[str, Any]:
    return {
        "in": "header",
        "name": conf.IDEMPOTENCY_HEADER,
        "required": is_required,
        "schema": {"type": "string", "pattern": PATTERN},
        "description": "A random key for this operation, such as a UUID, made before the "
        "first attempt and sent again with each retry, which gets the first answer.",
    }


def problems_by_status(*, key_required: bool) -> dict[int, list[Problem]]:
    """Return what an operation can be answered with in place of its own answer."""
    absent = {*problems.OF_QUESTIONS}
    if not key_required:
        absent.add(problems.KEY_MISSING)
    if conf.IDEMPOTENCY_ANONYMOUS != "refuse":
        absent.add(problems.SIGN_IN_REQUIRED)
    by_status: dict[int, list[Problem]] = {}
    for problem in problems.PROBLEMS:
        if problem not in absent:
            by_status.setdefault(problem.status, []).append(problem)
    return by_status


def titles_of(answers: list[Problem]) -> str:
    return "; ".join(f"`{each.code}`: {each.title}" for each in answers) + "."


def headers_of_answers() -> dict[str, Any]:
    """Return what the operation's own answers may have."""
    return {
        name: {
            "description": f"`true` {description}.",
            "schema": {"type": "string", "enum": ["true"]},
        }
        for name, description in {
            conf.IDEMPOTENCY_REPLAYED_HEADER: "on a replay of the first answer",
            ENDED_HEADER: "on an answer after which the key is used up",
        }.items()
    }


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
            "code": {"type": "string", "description": f"One of {codes}."},
        },
        "required": ["type", "title", "status", "detail", "code"],
    }
