"""`IDEMPOTENCY_TOMBSTONE`: the answer goes, and that it was done is remembered.

Whether the retention is over, the tombstone's time too, and whether the purge has come
by: a late repeat never does again what is remembered, and never gets what is gone.
"""

import io
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.core.management import call_command
from django.db.models import F
from django.db.models.functions import Now
from django.http import HttpResponse, JsonResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import path, reverse
from django.utils import timezone
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import signals
from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import AnswerExpired, KeyReused
from django_idempotency.models import IdempotencyRecord, OperationLink
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.store.forgetting import erase, forget_all, forget_answer
from django_idempotency.store.purging import Purge
from django_idempotency.stories.telling import moment
from django_idempotency.tasks import idempotent_task
from tests.factories import IdempotencyRecordFactory, UserFactory
from tests.support.cases import cases
from tests.support.ordering import forgiving_client
from tests.support.pages import block, run
from tests.support.records import change, record
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

KEY = "0c5a6f6e-6f0b-4d3a-9d6f-2a4c4e6f8a1b"
DAY = timedelta(days=1)
LEASE = timedelta(minutes=1)
OPTIONS: dict[str, Any] = {"tombstone": 30 * DAY}
SECRET = "Ann-Karenina-4711"  # noqa: S105 - what the answer says


class Scene:
    fails = False


scene = Scene()


def order() -> str:
    Order.objects.create(amount=1)
    return SECRET


def plain(request: Any) -> HttpResponse:
    request.idempotency.about("order-117", label=SECRET)
    answer = {"name": order()}
    if scene.fails:
        raise TimeoutError
    return JsonResponse(answer, status=201, headers={"X-Name": SECRET})


def with_steps(request: Any) -> HttpResponse:
    name = request.idempotency.write("order", order)
    if scene.fails:
        raise TimeoutError
    return JsonResponse({"name": name}, status=201)


def with_call(request: Any) -> HttpResponse:
    request.idempotency.call("charge", charge, if_unknown="hold")
    return JsonResponse({"name": order()}, status=201)


def charge(key: str) -> None:
    if scene.fails:
        raise TimeoutError


class Orders(IdempotencyMixin, APIView):
    idempotency_policy = IdempotencyPolicy(**OPTIONS)

    def post(self, request: Any) -> Response:
        return Response({"name": order()}, status=201)


@idempotent_task(key=lambda number, extra: KEY, **OPTIONS)
def task(number: int, extra: str) -> str:
    return order()


@idempotent_task(key=lambda number, extra: KEY, lease=LEASE, **OPTIONS)
def leased_task(number: int, extra: str) -> str:
    return order()


urlpatterns = [
    path("admin/", admin.site.urls),
    path("atomic/", idempotent(**OPTIONS)(plain)),
    path("leased/", idempotent(lease=LEASE, **OPTIONS)(with_steps)),
    path("call/", idempotent(lease=LEASE, **OPTIONS)(with_call)),
    path("rest/", Orders.as_view()),
    path("short/", idempotent(tombstone=timedelta(0))(plain)),
    path("default/", idempotent(plain)),
]


@pytest.fixture(autouse=True)
def quiet_scene() -> None:
    scene.fails = False


def by_request(url: str) -> Callable[[str], str]:
    def ask(extra: str = "") -> str:
        answer = post(url, extra)
        if answer.status_code == 201:
            return "replay" if "Idempotency-Replayed" in answer.headers else "run"
        return str(answer.json()["code"])

    return ask


def by_task(function: Callable[[int, str], str]) -> Callable[[str], str]:
    def ask(extra: str = "") -> str:
        before = Order.objects.count()
        try:
            function(1, extra)
        except AnswerExpired:
            return "answer-expired"
        except KeyReused:
            return "key-reused"
        return "replay" if Order.objects.count() == before else "run"

    return ask


def post(url: str = "/atomic/", extra: str = "") -> Any:
    return forgiving_client().post(
        url, {"extra": extra}, headers={"Idempotency-Key": KEY}
    )


WAYS: dict[str, Callable[[str], str]] = {
    **{url: by_request(f"/{url}/") for url in ("atomic", "leased", "rest")},
    "task": by_task(task),
    "leased task": by_task(leased_task),
}
each_way = pytest.mark.parametrize("way", WAYS)


def let_pass(time: timedelta) -> None:
    """As if so much time had passed since the claim."""
    change(
        created_at=F("created_at") - time,
        expires_at=F("expires_at") - time,
        remembered_until=F("remembered_until") - time,
    )
    OperationLink.objects.update(expires_at=F("expires_at") - time)


def purge(*options: str) -> str:
    out = io.StringIO()
    call_command("purge_idempotency_keys", *options, stdout=out, stderr=io.StringIO())
    return out.getvalue()


@each_way
@pytest.mark.parametrize("is_purged", [False, True], ids=["no purge", "purged"])
@pytest.mark.parametrize("has_tombstone", [False, True], ids=["off", "on"])
@pytest.mark.parametrize("extra", ["", "other"], ids=["same", "other"])
@cases(
    "age, then",
    {
        "kept": (DAY, "replay"),
        "past retention": (3 * DAY, "answer-expired"),
        "at the tombstone's end": (31 * DAY, "answer-expired"),
        "past both": (33 * DAY, "run"),
    },
)
def test_late_repeat_never_does_again_what_is_remembered(
    way: str,
    is_purged: bool,
    has_tombstone: bool,
    extra: str,
    age: timedelta,
    then: str,
) -> None:
    ask = WAYS[way]
    assert ask("") == "run"
    if not has_tombstone:
        change(remembered_until=None)
        then = then.replace("answer-expired", "run")
    let_pass(age)
    if is_purged:
        purge()
    row = IdempotencyRecord.objects.values().first()
    if extra and then != "run":
        then = "key-reused"

    assert ask(extra) == then

    assert Order.objects.count() == (2 if then == "run" else 1)
    if then == "answer-expired":
        assert IdempotencyRecord.objects.values().get() == row
        assert ask(extra) == then
    if then == "run":
        assert ask(extra) == "replay"
        assert record().expires_at > timezone.now()
        assert record().attempts == 1


@each_way
def test_tombstone_has_nothing_of_what_was_answered(way: str) -> None:
    WAYS[way]("")
    was = record()
    let_pass(3 * DAY)
    assert "1 answers of remembered operations" in purge("--dry-run")
    assert record().state == "kept"
    told = purge()

    assert told == (
        "Purged 1 answers of remembered operations, 0 idempotency records, 0 processed "
        "events"
    ) + (", 1 links of operations.\n" if way == "atomic" else ".\n")
    row = record()
    assert (row.state, row.response_status) == ("expired", was.response_status)
    assert (row.response_body, row.response_headers, row.steps) == (None, None, [])
    assert SECRET not in str(IdempotencyRecord.objects.values().get())
    assert not OperationLink.objects.exists()
    assert row.expires_at == row.remembered_until
    assert (row.scope, row.key, row.fingerprint) == (
        was.scope,
        was.key,
        was.fingerprint,
    )
    (note,) = row.history
    ended, until = moment(note["at"]), moment(was.expires_at)
    assert ended is not None
    assert until is not None
    assert abs(ended - (until - 3 * DAY)) < timedelta(seconds=1)
    assert "0 idempotency records" in purge()

    let_pass(30 * DAY)
    assert "1 idempotency records" in purge()
    assert not IdempotencyRecord.objects.exists()


@cases(
    "fails, url, age, then",
    {
        # All of it was rolled back: it stands for nothing.
        "rolled back": (True, "atomic", 3 * DAY, "run"),
        "between two steps": (True, "leased", 3 * DAY, "answer-expired"),
        "between two steps, in time": (True, "leased", DAY, "run"),
        "between two steps, past both": (True, "leased", 33 * DAY, "run"),
    },
)
@pytest.mark.parametrize("is_purged", [False, True], ids=["no purge", "purged"])
@pytest.mark.parametrize("is_killed", [False, True], ids=["failed", "killed"])
def test_operation_without_an_end_is_remembered_by_what_it_has_done(
    fails: bool, url: str, age: timedelta, then: str, is_purged: bool, is_killed: bool
) -> None:
    ask = WAYS[url]
    scene.fails = fails
    post(f"/{url}/")
    scene.fails = False
    if is_killed and url == "leased":
        change(state="in_flight", lease_expires_at=Now() - LEASE)
    let_pass(age)
    done = Order.objects.count()
    if is_purged:
        purge()

    assert ask("") == then
    is_resumed = url == "leased" and age == DAY
    assert Order.objects.count() == done + (then == "run" and not is_resumed)


@pytest.mark.parametrize("is_purged", [False, True], ids=["no purge", "purged"])
@cases("age, life", {"in time": (DAY, 2), "past retention": (3 * DAY, 1)})
def test_call_of_which_a_person_says_that_it_was_not_made_stands_for_nothing(
    age: timedelta, life: int, is_purged: bool
) -> None:
    scene.fails = True
    post("/call/")
    scene.fails = False
    record().settle(applied=False, reason="looked")
    let_pass(age)
    is_told = record().is_tombstone_at(datetime.now(UTC))
    if is_purged:
        purge()

    assert (is_told, by_request("/call/")("")) == (False, "run")
    assert record().attempts == life


@pytest.mark.parametrize("state", ["held", "lost", "leased"])
def test_what_waits_for_somebody_never_becomes_a_tombstone(state: str) -> None:
    post()
    columns: dict[str, dict[str, Any]] = {
        "held": {"state": "held"},
        "lost": {"state": "in_flight"},
        "leased": {"state": "in_flight", "lease_expires_at": Now() + DAY},
    }
    change(**columns[state])
    let_pass(3 * DAY)
    purge()
    assert record().state == columns[state]["state"]
    assert WAYS["atomic"]("") in ("outcome-unknown", "in-flight")


def test_settled_operation_is_remembered_as_long_as_it_was_to_be() -> None:
    row = IdempotencyRecordFactory.create(
        user=UserFactory.create(), held=True, policy=IdempotencyPolicy(**OPTIONS)
    )
    row.settle(applied=True, result=1, reason="looked")
    row.refresh_from_db()
    assert row.remembered_until is not None
    assert abs(row.remembered_until - row.expires_at - 30 * DAY) < LEASE


@cases(
    "url, setting, length",
    {
        "policy": ("/atomic/", timedelta(0), 30 * DAY),
        "policy over setting": ("/atomic/", DAY, 30 * DAY),
        "setting": ("/default/", 7 * DAY, 7 * DAY),
        "neither": ("/default/", timedelta(0), None),
        "off by policy": ("/short/", DAY, None),
    },
)
def test_policy_goes_before_the_setting(
    url: str, setting: timedelta, length: timedelta | None
) -> None:
    with override_settings(IDEMPOTENCY_TOMBSTONE=setting):
        post(url)
    row = record()
    until = row.remembered_until
    assert (until is None) is (length is None)
    if until is not None and length is not None:
        assert abs(until - row.expires_at - length) < LEASE


def test_refusal_is_told(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Any] = []

    def hear(operation: Any, **more: Any) -> None:
        heard.append(operation.record_id)

    post()
    let_pass(3 * DAY)
    signals.expired.connect(hear)
    with caplog.at_level(logging.INFO, "django_idempotency"):
        answer = post()
    signals.expired.disconnect(hear)

    assert heard == [record().pk]
    assert "idempotency expired" in caplog.text
    assert KEY not in caplog.text
    assert answer["Idempotency-Reference"] == record().reference
    assert "Idempotency-Ended" not in answer


@pytest.mark.parametrize("is_purged", [False, True], ids=["no purge", "purged"])
@pytest.mark.parametrize("url", ["/atomic/", "/leased/"])
@pytest.mark.parametrize("fails", [False, True], ids=["done", "failed"])
def test_story_says_that_the_answer_is_gone(
    admin_client: Client, url: str, is_purged: bool, fails: bool
) -> None:
    scene.fails = fails
    post(url)
    let_pass(3 * DAY)
    if is_purged:
        purge()
    if not IdempotencyRecord.objects.exists():
        return  # all of it was rolled back
    name = "admin:django_idempotency_idempotencyrecord_change"
    page = admin_client.get(reverse(name, args=[record().pk])).content.decode()
    out = io.StringIO()
    call_command("idempotency_explain", str(record().pk), stdout=out)

    is_remembered = url == "/leased/" or not fails
    assert ("a late repeat is refused" in page) is is_remembered
    assert ("A late repeat is refused until" in out.getvalue()) is is_remembered
    assert ("The answer was kept until then" in page) is is_purged
    assert ("The answer was kept until then" in out.getvalue()) is is_purged


@pytest.mark.parametrize("is_purged", [False, True], ids=["no purge", "purged"])
def test_what_is_forgotten_or_erased_stays_refused(is_purged: bool) -> None:
    user = UserFactory.create()
    client = forgiving_client()
    client.force_login(user)

    def ask() -> Any:
        return client.post("/atomic/", headers={"Idempotency-Key": KEY}).json()

    ask()
    let_pass(3 * DAY)
    if is_purged:
        purge()
        with pytest.raises(ValueError, match="is gone"):
            forget_answer(record(), by="bob", reason="asked")
    left = forget_all([record()], by="bob", reason="asked").left
    assert len(left) == is_purged
    assert ask()["code"] == "answer-expired"
    done = erase(f"auth.User:{user.pk}", by="bob", reason="letter")
    assert (len(done.done), done.left) == (1, [])
    purge()
    assert ask()["code"] == "answer-unavailable"
    assert str(user.pk) not in record().scope
    assert Order.objects.count() == 1


def test_older_than_keeps_answers_longer() -> None:
    post()
    let_pass(3 * DAY)
    purge("--older-than", "2d")
    assert record().state == "kept"
    purge("--older-than", "12h")
    assert record().state == "expired"


def test_batches_share_the_work() -> None:
    for number in range(5):
        IdempotencyRecordFactory.create(
            user=UserFactory.create(),
            key=f"k{number}",
            expired=True,
            policy=IdempotencyPolicy(**OPTIONS),
        )
    IdempotencyRecordFactory.create(user=UserFactory.create(), expired=True)
    assert "5 answers of remembered operations, 1 idempotency" in purge(
        "--batch-size", "2"
    )
    assert set(IdempotencyRecord.objects.values_list("state", flat=True)) == {"expired"}


def test_no_purge_deletes_what_another_one_has_not_shortened_yet() -> None:
    post()
    let_pass(3 * DAY)
    deleting = Purge.of_records(using="default", for_at_least=timedelta(0))
    assert (deleting.count(), list(deleting.batches(10))) == (0, [])
    assert WAYS["atomic"]("") == "answer-expired"


def test_view_of_the_page_has_a_tombstone() -> None:
    code = block("howto/purge", "tombstone").replace("...", "return order_of(request)")
    names = run(code, {"order_of": plain})
    request = RequestFactory().post("/", headers={"Idempotency-Key": KEY})
    request.user = UserFactory.create()
    assert names["payout"](request).status_code == 201
    assert record().remembered_until is not None
