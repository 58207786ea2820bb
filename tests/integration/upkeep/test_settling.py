"""A person settles what nobody else can know: by the method, the command, the admin."""

import json
import re
from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models.functions import Now
from django.http import HttpResponse, JsonResponse
from django.test import Client
from django.urls import path
from django.utils import timezone

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from tests.factories import IdempotencyRecordFactory
from tests.support.cases import cases
from tests.support.staff import Form, colleague

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

KEY = "0c5a6f6e-6f0b-4d3a-9d6f-2a4c4e6f8a1b"
REASON = "on the statement"
RESULT = {"charge": "first"}
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


def test_held_operation_has_an_unknown_outcome(held: IdempotencyRecord) -> None:
    answer = post()

    assert (answer.status_code, answer.json()["code"]) == (409, "outcome-unknown")
    assert len(calls) == 1


def by_method(held: IdempotencyRecord, *, applied: bool) -> str:
    result = RESULT if applied else None
    held.settle(applied=applied, result=result, reason=REASON, by="ann")
    return "ann"


def by_command(held: IdempotencyRecord, *, applied: bool) -> str:
    how = ["--applied", json.dumps(RESULT)] if applied else ["--not-applied"]
    settle(str(held.pk), *how, "--reason", REASON, "--seen", held.seen)
    return "settle_idempotency_key"


def by_admin(held: IdempotencyRecord, *, applied: bool) -> str:
    action = "settle_as_applied" if applied else "settle_as_not_applied"
    result = json.dumps(RESULT) if applied else ""
    form = Form.shown(colleague("view", "settle"), LIST, action, held)
    form.send(reason=REASON, result=result)
    return "colleague"


@pytest.mark.parametrize("settled", [by_method, by_command, by_admin])
@pytest.mark.parametrize("applied", [True, False], ids=["applied", "not-applied"])
def test_only_a_call_that_was_not_applied_is_made_again(
    held: IdempotencyRecord, settled: Any, applied: bool
) -> None:
    """With the same key, and though the retention is over."""
    IdempotencyRecord.objects.update(expires_at=Now() - timedelta(days=1))
    by = settled(held, applied=applied)
    (settlement,) = IdempotencyRecord.objects.get(path="/pay/").effects["settlements"]
    del settlement["at"]

    assert settlement == {"by": by, "reason": REASON, "applied": applied}
    assert post().json() == (RESULT if applied else {"charge": "second"})
    assert (len(calls), len(set(calls))) == (1 if applied else 2, 1)


@cases(
    "settlement, error",
    {
        "no reason": ({"reason": ""}, ValueError),
        "blank reason": ({"reason": " "}, ValueError),
        "no JSON": ({"result": object(), "reason": REASON}, TypeError),
    },
)
def test_settlement_that_cannot_be_meant_is_refused(
    held: IdempotencyRecord, settlement: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        held.settle(applied=True, **settlement)

    assert IdempotencyRecord.objects.get().state == "held"


@pytest.mark.parametrize("state", ["released", "kept"])
def test_only_what_is_held_is_settled(held: IdempotencyRecord, state: str) -> None:
    IdempotencyRecord.objects.update(
        state=state, response_status=201, response_headers=[]
    )
    held.refresh_from_db()
    with pytest.raises(ValueError, match="not held"):
        held.settle(applied=True, reason=REASON)


def test_live_owner_is_left_alone(held: IdempotencyRecord) -> None:
    IdempotencyRecord.objects.update(lease_expires_at=Now() + timedelta(minutes=1))
    with pytest.raises(ValueError, match="still running"):
        held.settle(applied=True, reason=REASON)


def deciding(way: Any, held: IdempotencyRecord) -> Callable[[], str]:
    """What a person decides who sees the record now: that the call was not applied."""
    seen = IdempotencyRecord.objects.get(pk=held.pk)
    form = None
    if way is by_admin:
        client = colleague("view", "settle")
        form = Form.shown(client, LIST, "settle_as_not_applied", held)

    def decided() -> str:
        try:
            return form.send(reason=REASON) if form else str(way(seen, applied=False))
        except (CommandError, ValueError) as error:
            return str(error)

    return decided


@pytest.mark.parametrize("way", [by_method, by_command, by_admin])
@pytest.mark.parametrize("second", ["another", "the same"])
@pytest.mark.parametrize("between", ["nothing", "a retry that is held as well"])
def test_what_was_found_out_settles_one_call(
    held: IdempotencyRecord, way: Any, second: str, between: str
) -> None:
    """Whoever comes second has found out about a call that is settled."""
    first = deciding(way, held)
    again = deciding(way, held) if second == "another" else first
    first()
    if between != "nothing":
        calls.clear()  # so the provider is slow again
        assert post().status_code == 500
    told = again()
    record = IdempotencyRecord.objects.get(path="/pay/")

    assert re.search("changed since you looked|sent more than once|not held", told)
    assert record.state == ("released" if between == "nothing" else "held")
    assert len(record.effects["settlements"]) == 1


def test_command_shows_what_there_is_and_settles_nothing_unseen(
    held: IdempotencyRecord,
) -> None:
    with pytest.raises(CommandError, match=r"held after 1 attempt.*--seen held:1:"):
        settle(str(held.pk), "--not-applied", "--reason", REASON)
    assert IdempotencyRecord.objects.get().state == "held"


def settle(*arguments: str) -> None:
    call_command("settle_idempotency_key", *arguments, verbosity=0)


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
        settle(str(held.pk), "--seen", held.seen, *arguments)
    with pytest.raises(CommandError):
        settle(KEY, "--not-applied", "--reason", "there is no such record")

    assert IdempotencyRecord.objects.get().state == "held"


@cases(
    "permission, action, data",
    {
        "no JSON": ("settle", "settle_as_applied", {"reason": REASON, "result": "{"}),
        "no reason": ("settle", "settle_as_not_applied", {"reason": ""}),
        "no permission": ("delete", "settle_as_not_applied", {"reason": REASON}),
    },
)
def test_admin_needs_sense_and_a_permission_of_its_own(
    held: IdempotencyRecord, permission: str, action: str, data: dict[str, str]
) -> None:
    client = colleague("view", permission)
    sent = {"action": action, "_selected_action": str(held.pk), **data}
    sent |= {"confirmed": "yes", f"seen-{held.pk}": held.seen}
    page = client.post(LIST, sent, follow=True).content.decode()

    assert ('class="error"' in page) is (permission == "settle")
    assert IdempotencyRecord.objects.get().state == "held"


def test_admin_shows_the_steps(held: IdempotencyRecord) -> None:
    page = colleague("view").get(f"{LIST}{held.pk}/change/")

    assert "charge" in page.content.decode()


@pytest.mark.parametrize("fraction", ["000000", "340000", "123456"])
def test_record_is_settled_whatever_the_moment_of_its_claim(fraction: str) -> None:
    """It is compared as it was written, on SQLite as text."""
    held = IdempotencyRecordFactory.create(held=True)
    zone = "+00" if connection.features.supports_timezones else ""
    moment = f"{timezone.now().astimezone(UTC):%Y-%m-%d %H:%M:%S}.{fraction}{zone}"
    with connection.cursor() as cursor:
        table = IdempotencyRecord._meta.db_table
        cursor.execute(f"UPDATE {table} SET created_at = %s", [moment])  # noqa: S608
    seen = IdempotencyRecord.objects.get(pk=held.pk)
    seen.settle(applied=False, reason="not on the list")

    assert IdempotencyRecord.objects.get(pk=held.pk).state == "released"
