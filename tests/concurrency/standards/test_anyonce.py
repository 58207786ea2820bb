"""The conformance vectors of anyonce: 11 of its tier "core", 9 of its tier "profile".

Source: github.com/sns45/anyonce, conformance/vectors. Its names are kept. Time isn't
waited for: the retention of the record is over when a step says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from tests.concurrency.standards.meeting import meeting
from tests.support.cases import cases
from tests.support.ordering import signed_in_client
from tests.support.records import expire
from tests.support.threads import go_through_the_gate

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls(__name__),
]


calls: list[str] = []
"""What the views have been called for: the suite counts calls, whatever became of them."""


@csrf_exempt
def echo(request: HttpRequest) -> HttpResponse:
    if request.method == "GET":
        return JsonResponse({"count": len(calls)})
    calls.append(request.path)
    return HttpResponse(request.body, status=201, content_type="text/plain")


@csrf_exempt
def status(request: HttpRequest, status: int) -> HttpResponse:
    calls.append(request.path)
    return HttpResponse(f"status {status}", status=status)


@csrf_exempt
def slow(request: HttpRequest) -> HttpResponse:
    calls.append(request.path)
    go_through_the_gate()
    return HttpResponse("awake")


@csrf_exempt
def large(request: HttpRequest, size: int) -> HttpResponse:
    calls.append(request.path)
    return HttpResponse(b"x" * size)


def all_of(protect: Any) -> list[Any]:
    return [
        path("echo", protect(echo)),
        path("status/<int:status>", protect(status)),
        path("slow", protect(slow)),
        path("large/<int:size>", protect(large)),
    ]


urlpatterns = [
    path("protected/", include(all_of(idempotent(wait=timedelta(0))))),
    path("unprotected/", include(all_of(lambda view: view))),
]

CODES = {
    "key-missing": "missing-key",
    "key-invalid": "invalid-key",
    "key-reused": "fingerprint-mismatch",
    "in-flight": "conflict",
}


def in_their_words(request: HttpRequest, problem: dict[str, Any]) -> HttpResponse:
    """What a project writes for IDEMPOTENCY_PROBLEM_RESPONSE."""
    problem["code"] = CODES.get(problem["code"], problem["code"])
    return JsonResponse(
        problem, status=problem["status"], content_type="application/problem+json"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One request, and what has to come of it."""

    status: int
    key: str | None = "k-1"
    body: str = "a"
    to: str = "echo"
    method: str = "POST"
    header: str = "Idempotency-Key"
    calls: int | None = None
    is_first_again: bool = False
    text: str | None = None
    size: int | None = None
    code: str | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    """Patterns; ``None``: it must not be there."""
    meets_the_first: bool = False
    is_after_the_retention: bool = False


PROBLEM = {"Content-Type": r"application/problem\+json.*"}
MARKED, UNMARKED = {"Idempotency-Replayed": "true"}, {"Idempotency-Replayed": None}
A_MIB_AND_ONE = 1024 * 1024 + 1

VECTORS: dict[str, list[Step]] = {
    "core/concurrent-409": [
        Step(status=200, to="slow", text="awake"),
        Step(status=409, to="slow", meets_the_first=True, calls=1),
    ],
    "core/expiry-executes-again": [
        Step(status=201, calls=1),
        Step(status=201, is_after_the_retention=True, calls=2),
    ],
    "core/get-ignored": [
        Step(status=200, method="GET", text='{"count": 0}'),
        Step(status=201, key="k-2", calls=1),
        Step(status=200, method="GET", text='{"count": 1}'),
    ],
    "core/header-name-case-insensitive": [
        Step(status=201, calls=1),
        Step(status=201, header="idempotency-key", is_first_again=True, calls=1),
    ],
    "core/key-missing-required": [Step(status=400, key=None, calls=0)],
    "core/mismatch-422": [
        Step(status=201, calls=1),
        Step(status=422, body="b", calls=1),
    ],
    "core/mismatch-does-not-poison": [
        Step(status=201, calls=1),
        Step(status=422, body="b", calls=1),
        Step(status=201, is_first_again=True, calls=1),
    ],
    "core/post-executes-once": [Step(status=201, text="a", calls=1)],
    "core/retry-replays": [
        Step(status=201, text="a", calls=1),
        Step(status=201, is_first_again=True, calls=1),
    ],
    "core/sf-string-quoted-key": [
        Step(status=201, key='"k-1"', text="a", calls=1),
        Step(status=201, key='"k-1"', is_first_again=True, calls=1),
    ],
    "core/two-keys-execute-twice": [
        Step(status=201, calls=1),
        Step(status=201, key="k-2", calls=2),
    ],
    "profile/4xx-replayed": [
        Step(status=404, to="status/404", calls=1),
        Step(status=404, to="status/404", is_first_again=True, headers=MARKED, calls=1),
    ],
    "profile/5xx-not-stored": [
        Step(status=500, to="status/500", calls=1),
        Step(status=500, to="status/500", headers=UNMARKED, calls=2),
    ],
    "profile/empty-key-rejected": [
        Step(status=400, key='""', code="invalid-key", calls=0)
    ],
    "profile/key-too-long": [
        Step(status=400, key="k" * 256, code="invalid-key", calls=0)
    ],
    "profile/omitted-body-replay": [
        Step(status=200, to=f"large/{A_MIB_AND_ONE}", size=A_MIB_AND_ONE, calls=1),
        Step(
            status=200,
            to=f"large/{A_MIB_AND_ONE}",
            size=0,
            headers={**MARKED, "Idempotency-Replay": "omitted"},
            calls=1,
        ),
    ],
    "profile/problem-code-member": [
        Step(status=400, key=None, code="missing-key"),
        Step(status=201),
        Step(status=422, body="b", code="fingerprint-mismatch"),
    ],
    "profile/problem-content-type": [
        Step(status=400, key=None, headers=PROBLEM),
        Step(status=201),
        Step(status=422, body="b", headers=PROBLEM),
    ],
    "profile/replayed-header": [
        Step(status=201, headers=UNMARKED),
        Step(status=201, is_first_again=True, headers=MARKED),
    ],
    "profile/retry-after-on-409": [
        Step(status=200, to="slow"),
        Step(
            status=409,
            to="slow",
            meets_the_first=True,
            headers={"Retry-After": "[1-9][0-9]*"},
        ),
    ],
}

OTHER_CODES = {
    "profile/empty-key-rejected",
    "profile/key-too-long",
    "profile/problem-code-member",
}
NEED_NO_PROTECTION = {
    "core/expiry-executes-again",
    "core/get-ignored",
    "core/post-executes-once",
    "core/two-keys-execute-twice",
    "profile/5xx-not-stored",
}


def missed(step: Step, answer: Any, first: Any, count: int) -> list[str]:
    """What of the step has not come."""
    found = {
        f"status {answer.status_code}": answer.status_code == step.status,
        f"headers {answer.headers}": all(
            _is(answer.headers.get(name), pattern)
            for name, pattern in step.headers.items()
        ),
        "another body": not step.is_first_again or answer.content == first.content,
        "another text": step.text is None or answer.content == step.text.encode(),
        f"{len(answer.content)} bytes": step.size in (None, len(answer.content)),
        f"code {_code(answer)}": step.code in (None, _code(answer)),
        f"{count} calls": step.calls in (None, count),
    }
    return [name for name, is_right in found.items() if not is_right]


def _is(value: str | None, pattern: str | None) -> bool:
    if value is None or pattern is None:
        return value is pattern
    return re.fullmatch(pattern, value) is not None


def _code(answer: Any) -> Any:
    try:
        return json.loads(answer.content).get("code")
    except ValueError:
        return None


def play(steps: list[Step], at: str) -> list[str]:
    """Send the requests; what of the answers and calls is not as it has to be."""
    calls.clear()
    answers: list[Any] = []
    counts: list[int] = []

    def ask(step: Step) -> Any:
        headers = {} if step.key is None else {step.header: step.key}
        return signed_in_client().generic(
            step.method, f"/{at}/{step.to}", step.body, "text/plain", headers=headers
        )

    if steps[-1].meets_the_first:
        answers += meeting(lambda: ask(steps[0]), lambda: ask(steps[1]))
        counts += [len(calls)] * 2
    else:
        for step in steps:
            if step.is_after_the_retention and at == "protected":
                expire()
            answers.append(ask(step))
            counts.append(len(calls))
    return [
        each
        for step, answer, count in zip(steps, answers, counts, strict=True)
        for each in missed(step, answer, answers[0], count)
    ]


def test_there_are_11_and_9() -> None:
    tiers = [name.partition("/")[0] for name in VECTORS]
    assert (tiers.count("core"), tiers.count("profile")) == (11, 9)


@pytest.mark.parametrize("name", VECTORS)
@cases(
    "at, setting, others",
    {
        "by default": ("protected", None, OTHER_CODES),
        "with their codes": ("protected", "in_their_words", set()),
        "unprotected": ("unprotected", None, VECTORS.keys() - NEED_NO_PROTECTION),
    },
)
def test_vector_of_anyonce(
    name: str, at: str, setting: str | None, others: set[str], settings: Any
) -> None:
    """The last one is the negative control."""
    settings.IDEMPOTENCY_PROBLEM_RESPONSE = setting and f"{__name__}.{setting}"

    found = play(VECTORS[name], at)

    assert bool(found) is (name in others), found
