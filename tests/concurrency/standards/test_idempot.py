"""The 49 scenarios of idempot's specification, in its order.

Source: github.com/idempot-dev/idempot-js, tests/spec/idempotency.feature. What they ask
for beside the status are the words of that project's errors, and that the same payload
under another key is refused; both are settings here.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.concurrency.standards.meeting import meeting
from tests.support.cases import cases
from tests.support.databases import read_only
from tests.support.ordering import forgiving_client, orders, send
from tests.support.threads import go_through_the_gate
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls(__name__),
]


@csrf_exempt
def order(request: HttpRequest) -> HttpResponse:
    if request.method != "GET":
        go_through_the_gate()
        Order.objects.create()
    return JsonResponse({"success": True})


urlpatterns = [path("protected", idempotent(order)), path("unprotected", order)]

SECTIONS = {
    "key-missing": "2.1",
    "key-invalid": "2.1",
    "key-reused": "2.2",
    "possible-duplicate": "2.2",
    "in-flight": "2.6",
}


def in_their_words(request: HttpRequest, problem: dict[str, Any]) -> HttpResponse:
    """What a project writes for IDEMPOTENCY_PROBLEM_RESPONSE."""
    document = {
        "type": f"https://example.com/draft#section-{SECTIONS.get(problem['code'], '2')}",
        "title": problem["title"],
        "detail": f"It wasn't processed: {problem['detail']}",
        "status": problem["status"],
        "instance": uuid.uuid4().urn,
        "retryable": problem["retry"] == "same-key",
        "idempotency_key": request.headers.get("Idempotency-Key"),
    }
    return JsonResponse(
        document, status=document["status"], content_type="application/problem+json"
    )


THEIR_WAYS = {
    "IDEMPOTENCY_PROBLEM_RESPONSE": f"{__name__}.in_their_words",
    "IDEMPOTENCY_INTENT_WINDOW": timedelta(hours=1),
    "IDEMPOTENCY_REPLAYED_HEADER": "X-Idempotent-Replayed",
}

REFUSED = (
    "missing key",
    "empty key",
    "long key",
    "commas",
    "another key",
    "another body",
    "in flight",
    "no store",
)

# What is sent, and under which key; the last answer counts

KEY, OTHER = "abc123456789012345678", "def123456789012345678"
BODY = '{"foo":"bar"}'
Send = Callable[..., Any]


def no_key(send: Send) -> Any:
    return send(key=None)


def empty(send: Send) -> Any:
    return send(key="")


def long(send: Send) -> Any:
    return send(key="a" * 256)


def commas(send: Send) -> Any:
    return send(key="key,with,commas,longer-than-twenty-chars")


def a_uuid(send: Send) -> Any:
    return send(key="8e03978e-40d5-43e8-bc93-6894a57f9324")


def first(send: Send) -> Any:
    return send()


def second(send: Send) -> Any:
    return [send() for _ in range(2)][-1]


def fourth(send: Send) -> Any:
    return [send() for _ in range(4)][-1]


def another_key(send: Send) -> Any:
    return [send(), send(key=OTHER)][-1]


def another_body(send: Send) -> Any:
    return [send(), send(body='{"baz":"qux"}')][-1]


def in_flight(send: Send) -> Any:
    return meeting(send, send)[-1]


def no_store(send: Send) -> Any:
    with read_only():
        return send()


def get(send: Send) -> Any:
    return send(method="GET", body="")


def put(send: Send) -> Any:
    return send(method="PUT")


def delete(send: Send) -> Any:
    return send(method="DELETE", body="")


def no_body(send: Send) -> Any:
    return send(body="{}")


def patch(send: Send) -> Any:
    return send(method="PATCH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What has to come of it."""

    status: int | None = None
    is_problem: bool = False
    words: tuple[str, ...] = ()
    """What the body has somewhere."""
    members: dict[str, Any] = field(default_factory=dict)
    mark: str | None = None
    orders: int | None = None
    records: int | None = None
    record: dict[str, Any] = field(default_factory=dict)
    record_says: str = ""


FORM = ("type", "title", "detail")
KEPT = IdempotencyRecord.State.KEPT
Scenario = tuple[Callable[[Send], Any], Told]


def instance(of: Callable[[Send], Any], status: int) -> Scenario:
    return of, Told(status=status, words=('"instance": "urn:uuid:',))


def retryable(of: Callable[[Send], Any], status: int, value: bool) -> Scenario:
    return of, Told(status=status, members={"retryable": value})


def problem(of: Callable[[Send], Any], status: int, *words: str) -> Scenario:
    return of, Told(status=status, is_problem=True, words=words)


SCENARIOS: dict[str, Scenario] = {
    # The header
    "missing key": problem(no_key, 400, "section-2.1"),
    "missing key: instance": instance(no_key, 400),
    "missing key: retryable": retryable(no_key, 400, False),
    "empty key": problem(empty, 400, "section-2.1", *FORM),
    "empty key: instance": instance(empty, 400),
    "empty key: retryable": retryable(empty, 400, False),
    "empty key: says the key": (empty, Told(status=400, words=("idempotency_key",))),
    "long key": problem(long, 400, "section-2.1", *FORM),
    "long key: instance": instance(long, 400),
    "long key: retryable": retryable(long, 400, False),
    "commas": problem(commas, 400, "section-2.1", *FORM),
    "commas: instance": instance(commas, 400),
    "commas: retryable": retryable(commas, 400, False),
    "valid key": (a_uuid, Told(status=200)),
    # The first request
    "first: record": (first, Told(record={"state": KEPT})),
    "first: status in the record": (first, Told(record={"response_status": 200})),
    "first: body in the record": (first, Told(record_says="success")),
    "first: resource": (first, Told(orders=1)),
    "first: answer": (first, Told(status=200, words=("success",))),
    # A repeat
    "repeat": (second, Told(status=200, words=("success",))),
    "repeat: mark": (second, Told(mark="x-idempotent-replayed")),
    "repeat: one record": (second, Told(records=1)),
    "repeat: one resource": (second, Told(orders=1)),
    "repeats": (fourth, Told(status=200, orders=1)),
    # The same payload under another key
    "another key": problem(another_key, 409, "section-2.2"),
    "another key: title": problem(another_key, 409, "section-2.2", "title"),
    "another key: one resource": (
        another_key,
        Told(status=409, is_problem=True, words=("section-2.2",), orders=1),
    ),
    "another key: instance": instance(another_key, 409),
    "another key: retryable": retryable(another_key, 409, False),
    # Another payload under the same key
    "another body": problem(another_body, 422, "section-2.2"),
    "another body: title": problem(another_body, 422, "section-2.2", "title"),
    "another body: instance": instance(another_body, 422),
    "another body: retryable": retryable(another_body, 422, False),
    "another body: says the key": (
        another_body,
        Told(status=422, members={"idempotency_key": KEY}),
    ),
    # While the first is running
    "in flight": problem(in_flight, 409, "section-2.6"),
    "in flight: message": problem(in_flight, 409, "section-2.6", "processed"),
    "in flight: instance": instance(in_flight, 409),
    "in flight: retryable": retryable(in_flight, 409, True),
    # The form of errors
    "form: missing key": problem(no_key, 400, *FORM),
    "form: another body": problem(another_body, 422, *FORM),
    "form: another key": problem(another_key, 409, *FORM),
    # Without the database
    "no store": problem(no_store, 503),
    "no store: instance": instance(no_store, 503),
    "no store: retryable": retryable(no_store, 503, True),
    # Other methods and bodies
    "GET": (get, Told(status=200)),
    "PUT": (put, Told(status=200)),
    "DELETE": (delete, Told(status=200)),
    "empty body": (no_body, Told(status=200)),
    "PATCH": (patch, Told(status=200, records=1)),
}


STATUSES = {
    "another key",
    "another key: title",
    "another key: one resource",
    "another key: instance",
    "another key: retryable",
    "form: another key",
}
"""What has another status by default: the same under another key is another order."""

BY_DEFAULT = STATUSES | {
    *(f"{each}: instance" for each in REFUSED),
    *(f"{each}: retryable" for each in REFUSED),
    "missing key",
    "empty key",
    "empty key: says the key",
    "long key",
    "commas",
    "repeat: mark",
    "another body",
    "another body: title",
    "another body: says the key",
    "in flight",
    "in flight: message",
}
NEED_NO_PROTECTION = {
    "valid key",
    "first: resource",
    "first: answer",
    "repeat",
    "GET",
    "PUT",
    "DELETE",
    "empty body",
}


def missed(answer: Any, told: Told) -> list[str]:
    text = answer.content.decode()
    try:
        members = json.loads(text)
    except ValueError:
        members = {}
    records = IdempotencyRecord.objects.filter(key=KEY)
    record: dict[str, Any] = dict(records.values().first() or {})
    found = {
        "the status": told.status in (None, answer.status_code),
        "no problem": not told.is_problem
        or answer.headers.get("Content-Type") == "application/problem+json",
        "words": all(each in text for each in told.words),
        "members": told.members.items() <= members.items(),
        "mark": told.mark is None or answer.headers.get(told.mark) == "true",
        "orders": told.orders in (None, orders()),
        "records": told.records in (None, len(records)),
        "the record": told.record.items() <= record.items(),
        "its body": told.record_says
        in bytes(record.get("response_body") or b"").decode(),
    }
    return [name for name, is_right in found.items() if not is_right]


def play(name: str, at: str) -> list[str]:
    """Act out the scenario; what of it is not as it has to be."""
    act, told = SCENARIOS[name]
    clients = [forgiving_client() for _ in range(2)]  # two may send at the same moment

    def ask(*, key: str | None = KEY, body: str = BODY, method: str = "POST") -> Any:
        client = clients.pop()
        try:
            return send(client, f"/{at}", body, key=key, method=method)
        finally:
            clients.append(client)

    return missed(act(ask), told)


def test_there_are_49_of_which_43_have_our_status_and_18_our_words() -> None:
    assert len(SCENARIOS) == 49
    assert len(SCENARIOS.keys() - STATUSES) == 43
    assert len(SCENARIOS.keys() - BY_DEFAULT) == 18


@pytest.mark.parametrize("name", SCENARIOS)
@cases(
    "at, ways, others",
    {
        "by default": ("protected", {}, BY_DEFAULT),
        "in their ways": ("protected", THEIR_WAYS, set()),
        "unprotected": ("unprotected", {}, SCENARIOS.keys() - NEED_NO_PROTECTION),
    },
)
def test_scenario_of_idempot(
    name: str, at: str, ways: dict[str, Any], others: set[str], settings: Any
) -> None:
    """The last one is the negative control."""
    settings.IDEMPOTENCY_WAIT = timedelta(0)
    for setting, value in ways.items():
        setattr(settings, setting, value)

    found = play(name, at)

    assert bool(found) is (name in others), found
    if others is BY_DEFAULT:
        assert ("the status" in found) is (name in STATUSES)
