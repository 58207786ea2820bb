"""A person lets an answer be forgotten, or somebody be erased, or releases a key.

What was done is never done again by that, and nothing is at rest that should not be.
"""

import io
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Model
from django.db.models.functions import Now
from django.http import HttpResponse, JsonResponse
from django.test import Client
from django.urls import path

from django_idempotency import signals
from django_idempotency.core.operations import ERASED
from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord, OperationLink
from django_idempotency.store.forgetting import (
    erase,
    forget_answer,
    records_about,
    release_stuck,
)
from tests.factories import IdempotencyRecordFactory
from tests.support.cases import cases
from tests.support.records import change, expire, record
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

KEY = "0c5a6f6e-6f0b-4d3a-9d6f-2a4c4e6f8a1b"
SECRET = "Ann-Karenina-4711"  # noqa: S105 - what tells of the person
WHO = {"by": "bob", "reason": "letter of 3 May"}


@idempotent
def atomic(request: IdempotentRequest, name: str) -> HttpResponse:
    order = Order.objects.create(amount=1)
    request.idempotency.about(order, label=name)
    return JsonResponse({"name": name}, headers={"X-Name": name}, status=201)


@idempotent(lease=timedelta(minutes=1))
def leased(request: IdempotentRequest, name: str) -> HttpResponse:
    def made() -> str:
        order = Order.objects.create(amount=1)
        request.idempotency.about(order, label=name)
        return name

    return JsonResponse(request.idempotency.write("order", made), safe=False)


urlpatterns = [path("atomic/<name>/", atomic), path("leased/<name>/", leased)]

each_shape = pytest.mark.parametrize("shape", ["atomic", "leased"])


@pytest.fixture
def ann() -> User:
    return User.objects.create(username="ann")


def pay(user: User, shape: str = "atomic", key: str = KEY) -> Any:
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client.post(f"/{shape}/{SECRET}/", headers={"Idempotency-Key": key})


def forget_it(user: User) -> None:
    forget_answer(record(), **WHO)


def forget_key(user: User) -> None:
    command("--key", KEY)


def forget_object(user: User) -> None:
    command("--object", f"testapp.Order:{Order.objects.get().pk}")


def erase_person(user: User) -> None:
    erase(f"auth.User:{user.pk}", **WHO)


def erase_by_command(user: User) -> None:
    command("--principal", f"auth.User:{user.pk}")


def command(*arguments: str) -> str:
    out = io.StringIO()
    call_command(
        "idempotency_forget", *arguments, "--reason", WHO["reason"], stdout=out
    )
    return out.getvalue()


FORGET = [forget_it, forget_key, forget_object]
ERASE = [erase_person, erase_by_command]


def at_rest(*models: type[Model]) -> str:
    """All that is in these tables, as text."""
    return "\n".join(
        repr(row if not isinstance(row, memoryview) else bytes(row))
        for model in models
        for values in model._base_manager.values_list()
        for row in values
    )


@each_shape
@pytest.mark.parametrize("forget", [*FORGET, *ERASE])
@pytest.mark.parametrize("is_late", [False, True], ids=["at once", "past retention"])
def test_what_is_forgotten_is_never_done_again(
    ann: User, shape: str, forget: Callable[[User], None], is_late: bool
) -> None:
    assert pay(ann, shape).status_code in (200, 201)
    forget(ann)
    if is_late and forget in ERASE:
        expire()

    repeats = [pay(ann, shape) for _ in range(2)]

    assert {(each.status_code, each.json()["code"]) for each in repeats} == {
        (409, "answer-unavailable")
    }
    assert Order.objects.count() == 1


@each_shape
@pytest.mark.parametrize("forget", [*FORGET, *ERASE])
def test_nothing_of_an_answer_is_left(
    ann: User, shape: str, forget: Callable[[User], None]
) -> None:
    pay(ann, shape)
    pay(ann, shape)
    links = OperationLink.objects.filter(row_id=record().pk)
    assert links.exists()
    forget(ann)
    row = record()

    assert not links.exists()
    assert (bytes(row.response_body or b""), row.response_headers) == (b"", [])
    assert (row.effects, row.earlier_steps) == ({}, None)
    assert {name for note in row.history[:-1] for name in note} == {"at", "what"}
    assert row.history[-1]["reason"] == WHO["reason"]
    if forget in ERASE:
        stored = at_rest(IdempotencyRecord, OperationLink)
        assert not [text for text in (SECRET, KEY, f":{ann.pk}|") if text in stored]


def test_another_payload_is_still_refused_after_forgetting(ann: User) -> None:
    pay(ann)
    forget_it(ann)
    client = Client()
    client.force_login(ann)
    other = client.post(
        f"/atomic/{SECRET}/", {"a": 1}, headers={"Idempotency-Key": KEY}
    )

    assert other.json()["code"] == "key-reused"


@pytest.mark.parametrize("replayed_as", ["same", "new"])
def test_erased_person_can_go_on_with_new_keys(ann: User, replayed_as: str) -> None:
    pay(ann)
    erase_person(ann)

    new = pay(ann, key=KEY.replace("0c5a", "1c5a"))

    assert new.status_code == 201
    assert erase(f"auth.User:{ann.pk}", **WHO).left == []


@cases(
    "principal, is_found",
    {
        "theirs": ("{label}:{pk}", True),
        "longer": ("{label}:{pk}0", False),
        "of a tenant": ("{label}:{pk}|tenant", False),
        "other letters": ("{upper}:{pk}", False),
    },
)
def test_only_this_person_is_erased(ann: User, principal: str, is_found: bool) -> None:
    """Though a principal may begin as another one does, or hold a separator."""
    pay(ann)
    scope = principal.format(label="auth.User", upper="AUTH.USER", pk=ann.pk)
    change(scope=f"{scope}|POST|{record().path}")

    erase_person(ann)

    assert (record().scope == ERASED) is is_found


def unfinished(**columns: Any) -> Callable[[User], None]:
    def made(user: User) -> None:
        IdempotencyRecordFactory.create(user=user, key=KEY, **columns)

    return made


STEP = {"steps": [{"name": "charge", "kind": "call", "done": True, "result": 1}]}


@pytest.mark.parametrize("forget", [forget_key, erase_by_command])
@cases(
    "made",
    {
        "held": unfinished(held=True),
        "running": unfinished(in_flight=True),
        "lost": unfinished(in_flight=True, lease_expires_at=None),
        "crashed": unfinished(in_flight=True, lease_expires_at=Now()),
        "between steps": unfinished(released=True, effects=STEP),
    },
)
def test_operation_that_has_no_end_yet_is_left_and_named(
    ann: User, made: Callable[[User], None], forget: Callable[[User], None]
) -> None:
    """Or what its retry goes on after would be lost, and done again."""
    made(ann)
    before = list(IdempotencyRecord.objects.values())

    with pytest.raises(CommandError, match=record().reference):
        forget(ann)

    assert list(IdempotencyRecord.objects.values()) == before


@pytest.mark.parametrize("forget", [forget_key, erase_by_command])
def test_row_that_stands_for_nothing_is_deleted(
    ann: User, forget: Callable[[User], None]
) -> None:
    unfinished(released=True)(ann)

    forget(ann)

    assert not IdempotencyRecord.objects.exists()


def test_dry_run_counts_and_forgets_nothing(ann: User) -> None:
    pay(ann)
    unfinished(held=True)(ann)

    told = command("--principal", f"auth.User:{ann.pk}", "--dry-run")

    assert told == (
        "Would forget 1 operation. 1 operation would be left as they are.\n"
    )
    assert SECRET in at_rest(IdempotencyRecord)


def test_objects_are_found_by_label_or_by_name(ann: User) -> None:
    pay(ann)
    order = Order.objects.get()

    for subject in (f"testapp.order:{order.pk}", f"testapp.Order:{order.pk}"):
        assert [each.pk for each in records_about(subject)] == [record().pk]
    assert records_about("testapp.order:0") == []


@cases(
    "arguments, sentence",
    {
        "guests": (["--principal", "anonymous", "--reason", "x"], "All guests share"),
        "guests of a tenant": (
            ["--principal", "t1|anonymous", "--reason", "x"],
            "All guests share",
        ),
        "tasks": (["--principal", "task", "--reason", "x"], "All tasks share"),
        "no reason": (["--key", KEY], "Give a reason"),
        "nothing": (["--reason", "x"], "required"),
        "two": (["--key", KEY, "--principal", "x"], "not allowed"),
    },
)
def test_command_refuses_what_cannot_be_meant(
    arguments: list[str], sentence: str
) -> None:
    with pytest.raises(CommandError, match=sentence):
        call_command("idempotency_forget", *arguments, stdout=io.StringIO())


# What was seen


@pytest.mark.parametrize("act", [forget_answer, release_stuck])
@cases(
    "then",
    {
        "settled": {"state": "released"},
        "tried again": {"attempts": 7},
        "begun anew": {"created_at": Now() - timedelta(microseconds=1)},
    },
)
def test_row_that_has_changed_since_it_was_seen_is_refused(
    ann: User, act: Any, then: dict[str, Any]
) -> None:
    unfinished(in_flight=True, lease_expires_at=None)(ann)
    if act is forget_answer:
        change(state="kept", response_status=200, response_headers=[])
    seen = record()
    change(**then)
    before = list(IdempotencyRecord.objects.values())

    with pytest.raises(ValueError, match="changed since you looked"):
        act(seen, **WHO)

    assert list(IdempotencyRecord.objects.values()) == before


def test_answer_is_forgotten_once(ann: User) -> None:
    pay(ann)
    seen = record()
    forget_answer(record(), **WHO)

    with pytest.raises(ValueError, match="forgotten already"):
        forget_answer(seen, **WHO)


@pytest.mark.parametrize("act", [forget_answer, release_stuck])
def test_record_that_is_gone_is_refused(ann: User, act: Any) -> None:
    unfinished()(ann)
    seen = record()
    IdempotencyRecord.objects.all().delete()

    with pytest.raises(ValueError, match="gone"):
        act(seen, **WHO)


# A stuck key


@cases(
    "columns",
    {
        "lost": {"lease_expires_at": None},
        "crashed": {"lease_expires_at": Now() - timedelta(seconds=1)},
        "in a call": {
            "lease_expires_at": Now() - timedelta(seconds=1),
            "effects": {"steps": [{**STEP["steps"][0], "done": False}]},
        },
    },
)
def test_stuck_key_is_free_when_nothing_has_happened(
    ann: User, columns: dict[str, Any]
) -> None:
    pay(ann)
    Order.objects.all().delete()
    change(state="in_flight", response_status=None, response_headers=None, **columns)

    release_stuck(record(), **WHO)

    released = record()
    assert (released.state, released.effects) == ("released", {})
    assert released.history[-1]["what"] == "freed"
    assert pay(ann).status_code == 201
    assert Order.objects.count() == 1


@cases(
    "columns, why",
    {
        "running": ({"in_flight": True}, "still running"),
        "held": ({"held": True}, "settle it"),
        "kept": ({}, "isn't stuck"),
        "a step is done": (
            {"in_flight": True, "lease_expires_at": Now(), "effects": STEP},
            "is done: 'charge'",
        ),
    },
)
def test_key_that_is_not_stuck_is_not_released(
    ann: User, columns: dict[str, Any], why: str
) -> None:
    unfinished(**columns)(ann)
    before = record().state

    with pytest.raises(ValueError, match=why):
        release_stuck(record(), **WHO)

    assert record().state == before


# Being told


def forgets(user: User) -> None:
    forget_answer(record(), **WHO)


def frees(user: User) -> None:
    change(state="in_flight", response_status=None, response_headers=None)
    release_stuck(record(), **WHO)


@cases(
    "act, action",
    {
        "forgotten": (forgets, "forgotten"),
        "freed": (frees, "freed"),
        "erased": (erase_person, "erased"),
    },
)
def test_each_act_is_a_line_and_a_signal_and_a_permission(
    ann: User,
    act: Callable[[User], None],
    action: str,
    caplog: pytest.LogCaptureFixture,
    django_capture_on_commit_callbacks: Any,
) -> None:
    pay(ann)
    sent: list[dict[str, Any]] = []

    def receive(**arguments: Any) -> None:
        sent.append(arguments)

    getattr(signals, action).connect(receive)
    with (
        caplog.at_level(logging.WARNING, "django_idempotency"),
        django_capture_on_commit_callbacks(execute=True),
    ):
        act(ann)

    (line,) = caplog.records
    (arguments,) = sent
    assert (line.levelname, line.action) == ("WARNING", action)  # type: ignore[attr-defined]
    assert "bob" in line.getMessage()
    assert {"by": arguments["by"], "reason": arguments["reason"]} == WHO
    if action == "erased":
        assert arguments["record_ids"] == [record().pk]
        assert SECRET not in line.getMessage()
    else:
        assert arguments["record"] == record()
    codename = {"forgotten": "forget", "freed": "release", "erased": "erase"}[action]
    assert Permission.objects.filter(codename=f"{codename}_idempotencyrecord").exists()


@pytest.mark.parametrize("act", [forget_answer, release_stuck])
def test_act_without_a_reason_is_refused(ann: User, act: Any) -> None:
    pay(ann)
    with pytest.raises(ValueError, match="reason"):
        act(record(), by="bob", reason=" ")


def test_table_is_read_by_the_key_of_its_rows(
    ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pages, however many there are."""
    monkeypatch.setattr("django_idempotency.store.forgetting.AT_ONCE", 2)
    for number in range(5):
        pay(ann, key=KEY.replace("0c5a", f"{number}c5a"))

    assert len(erase(f"auth.User:{ann.pk}", **WHO).done) == 5
    assert connection.in_atomic_block
