"""A person settles what nobody else can know: by the method, the command, the admin."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.core.management import CommandError, call_command
from django.db.models.functions import Now
from django.http import HttpResponse, JsonResponse
from django.test import Client
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from tests.integration.staff import colleague

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

KEY = "0c5a6f6e-6f0b-4d3a-9d6f-2a4c4e6f8a1b"
LIST = "/admin/django_idempotency/idempotencyrecord/"

calls: list[str] = []
"""The keys with which the provider was called."""


@idempotent(lease=timedelta(minutes=1))
def pay(request: IdempotentRequest) -> HttpResponse:
    def charge(key: str) -> Any:
        calls.append(key)
        if len(calls) == 1:
            raise TimeoutError
        return {"charge": "second"}

    charged = request.idempotency.call("charge", charge, if_unknown="hold")
    return JsonResponse(charged, status=201)


urlpatterns = [path("pay/", pay), path("admin/", admin.site.urls)]


def post() -> Any:
    client = Client(raise_request_exception=False)
    return client.post("/pay/", headers={"Idempotency-Key": KEY})


@pytest.fixture
def held() -> IdempotencyRecord:
    calls.clear()
    assert post().status_code == 500
    record = IdempotencyRecord.objects.get()
    assert record.state == "held"
    return record


def test_held_operation_answers_that_its_outcome_is_unknown(
    held: IdempotencyRecord,
) -> None:
    answer = post()

    assert (answer.status_code, answer.json()["code"]) == (409, "outcome-unknown")
    assert len(calls) == 1


def test_applied_call_is_not_made_again(held: IdempotencyRecord) -> None:
    held.settle(applied=True, result={"charge": "first"}, reason="on the statement")

    assert (post().json(), len(calls)) == ({"charge": "first"}, 1)


def test_call_that_was_not_applied_is_made_again_with_the_same_key(
    held: IdempotencyRecord,
) -> None:
    held.settle(applied=False, reason="not on the statement")

    assert post().json() == {"charge": "second"}
    assert len(calls) == 2
    assert len(set(calls)) == 1


def test_who_settled_it_and_why_is_recorded(held: IdempotencyRecord) -> None:
    held.settle(applied=False, reason="not on the statement", by="colleague")
    (settlement,) = held.effects["settlements"]

    assert (settlement["by"], settlement["reason"], settlement["applied"]) == (
        "colleague",
        "not on the statement",
        False,
    )


def test_retry_after_the_retention_is_still_the_same_operation(
    held: IdempotencyRecord,
) -> None:
    IdempotencyRecord.objects.update(expires_at=Now() - timedelta(days=1))
    held.settle(applied=True, result={"charge": "first"}, reason="on the statement")

    assert (post().json(), len(calls)) == ({"charge": "first"}, 1)


@pytest.mark.parametrize("reason", ["", " "])
def test_reason_is_needed(held: IdempotencyRecord, reason: str) -> None:
    with pytest.raises(ValueError, match="how it was found out"):
        held.settle(applied=True, reason=reason)

    assert IdempotencyRecord.objects.get().state == "held"


def test_result_has_to_be_json(held: IdempotencyRecord) -> None:
    with pytest.raises(TypeError):
        held.settle(applied=True, result=object(), reason="on the statement")

    assert IdempotencyRecord.objects.get().state == "held"


@pytest.mark.parametrize("state", ["in_flight", "released", "kept"])
def test_only_what_is_held_is_settled(held: IdempotencyRecord, state: str) -> None:
    IdempotencyRecord.objects.update(
        state=state, response_status=201, response_headers=[]
    )
    with pytest.raises(ValueError, match="not held"):
        held.settle(applied=True, reason="on the statement")


def test_live_owner_is_left_alone(held: IdempotencyRecord) -> None:
    IdempotencyRecord.objects.update(lease_expires_at=Now() + timedelta(minutes=1))
    with pytest.raises(ValueError, match="still running"):
        held.settle(applied=True, reason="on the statement")


# The command


def settle(*arguments: str) -> None:
    call_command("settle_idempotency_key", *arguments, verbosity=0)


def test_command_settles_with_a_result(
    held: IdempotencyRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    settle(str(held.pk), "--applied", '{"charge": "first"}', "--reason", "statement")

    assert capsys.readouterr().out.startswith(f"Settled {held.pk}")
    assert post().json() == {"charge": "first"}


def test_command_settles_as_not_applied(held: IdempotencyRecord) -> None:
    settle(str(held.pk), "--not-applied", "--reason", "statement")

    assert post().json() == {"charge": "second"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--applied", "{", "--reason", "statement"],
        ["--reason", "statement"],
        ["--not-applied"],
        ["--not-applied", "--reason", " "],
        ["--not-applied", "--applied", "1", "--reason", "statement"],
    ],
    ids=" ".join,
)
def test_command_refuses_what_cannot_be_meant(
    held: IdempotencyRecord, arguments: list[str]
) -> None:
    with pytest.raises(CommandError):
        settle(str(held.pk), *arguments)

    assert IdempotencyRecord.objects.get().state == "held"


def test_command_refuses_an_unknown_record() -> None:
    with pytest.raises(CommandError):
        settle(KEY, "--not-applied", "--reason", "statement")


# The admin


def act(client: Client, record: IdempotencyRecord, action: str, **data: str) -> str:
    data = {"action": action, "_selected_action": str(record.pk), **data}
    answer = client.post(LIST, data, follow=True)
    return answer.content.decode()


def test_admin_settles_with_a_result(held: IdempotencyRecord) -> None:
    client = colleague("view", "settle")
    result = json.dumps({"charge": "first"})
    act(client, held, "settle_as_applied", reason="statement", result=result)

    assert post().json() == {"charge": "first"}
    settlement = IdempotencyRecord.objects.get().effects["settlements"][0]
    assert settlement["by"] == "colleague"


def test_admin_settles_as_not_applied(held: IdempotencyRecord) -> None:
    client = colleague("view", "settle")
    act(client, held, "settle_as_not_applied", reason="statement")

    assert post().json() == {"charge": "second"}


@pytest.mark.parametrize(
    "data",
    [
        {"action": "settle_as_applied", "reason": "statement", "result": "{"},
        {"action": "settle_as_not_applied", "reason": ""},
    ],
    ids=lambda data: data["action"],
)
def test_admin_says_what_is_wrong(
    held: IdempotencyRecord, data: dict[str, str]
) -> None:
    client = colleague("view", "settle")
    page = act(client, held, **data)

    assert 'class="error"' in page
    assert IdempotencyRecord.objects.get().state == "held"


def test_admin_needs_a_permission_of_its_own(held: IdempotencyRecord) -> None:
    client = colleague("view", "delete")
    act(client, held, "settle_as_not_applied", reason="statement")

    assert IdempotencyRecord.objects.get().state == "held"


def test_admin_shows_the_steps(held: IdempotencyRecord) -> None:
    page = colleague("view").get(f"{LIST}{held.pk}/change/")

    assert "charge" in page.content.decode()
