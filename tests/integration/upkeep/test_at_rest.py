"""`IDEMPOTENCY_BODY_CODEC`: what is at rest can't be read, and means what it meant.

A codec that is switched on, rotated, lost or forged for never lets anything be done a
second time, nor lets anybody be told that it was done when it wasn't.
"""

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.http import HttpResponse, JsonResponse
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse

from django_idempotency.checks.settings import check_settings
from django_idempotency.contrib.fernet import FernetCodec
from django_idempotency.core import at_rest
from django_idempotency.core.at_rest import AS_IT_IS, ENCODED, MARK
from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import Undecodable
from django_idempotency.models import IdempotencyRecord, OperationLink, ProcessedEvent
from django_idempotency.tasks import current_operation, run_once
from django_idempotency.webhooks import Event, providers, webhook
from django_idempotency.webhooks.inbox import Step, process_next, rerun
from tests.support.cases import cases
from tests.support.client import new_key
from tests.support.deliveries import SECRET, deliver, stripe
from tests.support.ordering import forgiving_client
from tests.support.pages import block, blocks, run
from tests.support.records import change, record, states
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

CODEC = "django_idempotency.contrib.fernet.FernetCodec"
NAME = "Ann-Karenina-4711"
MODELS = (IdempotencyRecord, ProcessedEvent, OperationLink)
KEYS = [Fernet.generate_key().decode() for _ in range(3)]
LEASE = timedelta(minutes=1)
ABOUT = {"object": {"id": "in_1", "name": NAME}}


class Scene:
    asked: int = 0
    fails: bool = False
    body: bytes | None = None


scene = Scene()


class Declined(Exception): ...


def order() -> dict[str, str]:
    Order.objects.create(amount=1)
    return {"name": NAME}


def charge(key: str) -> dict[str, str]:
    scene.asked += 1
    return {"card": NAME}


def declined(key: str) -> None:
    raise Declined(NAME)


def with_steps(request: Any, **more: Any) -> HttpResponse:
    card = request.idempotency.call("charge", charge)
    with suppress(Exception):
        request.idempotency.call("check", declined, refused=Declined)
    order_name = request.idempotency.write("order", order)
    if scene.fails:
        raise TimeoutError
    return JsonResponse({**card, **order_name}, status=201)


def plain(request: Any) -> HttpResponse:
    Order.objects.create(amount=1)
    if scene.body is not None:
        return HttpResponse(scene.body, status=201)
    return JsonResponse({"name": NAME}, status=201)


def held(request: Any) -> HttpResponse:
    request.idempotency.call("charge", lost_call, if_unknown="hold")
    return JsonResponse({"orders": Order.objects.create(amount=1).pk})


def lost_call(key: str) -> Any:
    scene.asked += 1
    keys.append(key)
    raise TimeoutError


keys: list[str] = []


def handle(event: Event) -> None:
    if scene.fails:
        raise ValueError
    Order.objects.create(amount=1)


def told(event: Event) -> Any:
    return {"card": event.data["data"]["object"]["name"]}


settling: Any = {"secrets": SECRET, "settles": "charge", "result": told}
urlpatterns = [
    path("admin/", admin.site.urls),
    path("atomic/", idempotent(plain)),
    path("leased/", idempotent(lease=LEASE)(with_steps)),
    path("held/", idempotent(lease=LEASE)(held)),
    path(
        "inbox/",
        webhook(providers.STRIPE, endpoint="rest-in", inbox=True, secrets=SECRET)(
            handle
        ),
    ),
    path(
        "dying/",
        webhook(providers.STRIPE, endpoint="rest-die", max_attempts=1, secrets=SECRET)(
            handle
        ),
    ),
    path("told/", webhook(providers.STRIPE, endpoint="rest-told", **settling)(handle)),
]


@pytest.fixture(autouse=True)
def quiet_scene() -> Iterator[None]:
    scene.asked, scene.fails, scene.body = 0, False, None
    keys.clear()
    with encoding(KEYS[0]):
        yield


def encoding(*with_keys: str) -> Any:
    """With these keys, or without a codec."""
    if not with_keys:
        return override_settings(IDEMPOTENCY_BODY_CODEC=None, IDEMPOTENCY_BODY_KEYS=[])
    return override_settings(
        IDEMPOTENCY_BODY_CODEC=CODEC, IDEMPOTENCY_BODY_KEYS=list(with_keys)
    )


def post(
    url: str = "/atomic/", key: str = "0c5a6f6e-6f0b-4d3a-9d6f-2a4c4e6f8a1b"
) -> Any:
    return forgiving_client().post(url, headers={"Idempotency-Key": key})


def task() -> Any:
    return run_once("receipt:1", order)


def stored() -> bytes:
    """All that is in our tables."""
    values = [
        value
        for model in MODELS
        for row in model._base_manager.values_list()
        for value in row
    ]
    return b"\n".join(
        bytes(each) if isinstance(each, bytes | memoryview) else str(each).encode()
        for each in values
    )


def failing(url: str) -> Callable[[], Any]:
    def act() -> Any:
        scene.fails = True
        answer = post(url) if url == "/leased/" else event_to(url)
        scene.fails = False
        return answer

    return act


def event_to(url: str) -> Any:
    return deliver(url, stripe(data=ABOUT))


def tell() -> Any:
    post("/held/")
    request = {"id": "req_1", "idempotency_key": keys[-1]}
    return deliver(
        "/told/", stripe(request=request, data=ABOUT, created=int(time.time()))
    )


WRITES: dict[str, Callable[[], Any]] = {
    "answer": post,
    "leased answer and steps": lambda: post("/leased/"),
    "steps of a failed try": failing("/leased/"),
    "result of a task": task,
    "payload in the inbox": lambda: event_to("/inbox/"),
    "payload of a dead event": failing("/dying/"),
    "word of the other side": tell,
}


@cases("write", WRITES)
def test_nothing_at_rest_can_be_read(write: Callable[[], Any]) -> None:
    write()
    encoded = stored()
    for model in MODELS:
        model._base_manager.all().delete()
    with encoding():
        write()

    assert NAME.encode() not in encoded
    assert NAME.encode() in stored()  # that is where it would be


@pytest.mark.parametrize("url", ["/atomic/", "/leased/"])
@cases(
    "before, after",
    {
        "encoded": (KEYS[:1], KEYS[:1]),
        "switched on meanwhile": ([], KEYS[:1]),
        "rotated": (KEYS[:1], [KEYS[1], KEYS[0]]),
        "rotated twice": (KEYS[:1], [KEYS[2], KEYS[1], KEYS[0]]),
        "plain": ([], []),
    },
)
def test_repeat_gets_the_first_answer(
    url: str, before: list[str], after: list[str]
) -> None:
    with encoding(*before):
        first = post(url)
    with encoding(*after):
        repeat = post(url)

    assert (repeat.status_code, repeat.content) == (201, first.content)
    assert NAME.encode() in repeat.content
    assert repeat["Idempotency-Replayed"] == "true"
    assert Order.objects.count() == 1


FORGED = [
    *(b"", b"\0", MARK, ENCODED, AS_IT_IS, MARK[:-1], MARK + b"\2", ENCODED + b"x"),
    *(AS_IT_IS + ENCODED + b"x", ENCODED * 3, b"\xff" * 3),
]


@pytest.mark.parametrize("before", [[], KEYS[:1]], ids=["plain", "encoded"])
@pytest.mark.parametrize("after", [[], KEYS[:1]], ids=["off", "on"])
@pytest.mark.parametrize("body", FORGED)
def test_no_body_is_taken_for_an_encoded_one(
    before: list[str], after: list[str], body: bytes
) -> None:
    scene.body = body
    with encoding(*before):
        post()
    with encoding(*after):
        repeat = post()

    if before and not after:
        assert repeat.json()["code"] == "answer-unavailable"
    else:
        assert (repeat.status_code, repeat.content) == (201, body)
    assert Order.objects.count() == 1


@cases(
    "lost",
    {
        "key is gone": KEYS[1:2],
        "codec is off": [],
    },
)
@pytest.mark.parametrize("url", ["/atomic/", "/leased/"])
def test_answer_that_cant_be_decoded_is_neither_given_nor_made_again(
    url: str, lost: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    first = post(url)
    row = IdempotencyRecord.objects.values().get()
    with encoding(*lost), caplog.at_level(logging.ERROR, "django_idempotency"):
        repeats = [post(url) for _ in range(2)]

    assert [(each.status_code, each.json()["code"]) for each in repeats] == [
        (409, "answer-unavailable")
    ] * 2
    assert "IDEMPOTENCY_BODY_CODEC" in caplog.text
    assert (Order.objects.count(), NAME in caplog.text) == (1, False)
    assert IdempotencyRecord.objects.values().get() == row
    assert post(url).content == first.content


class Wrong:
    """Gives something else back than bytes."""

    gives: Any = None

    def encode(self, data: bytes, context: str) -> bytes:
        return data

    def decode(self, data: bytes, context: str) -> Any:
        return self.gives


@pytest.mark.parametrize("gives", [5, True, [104, 105], "text", None])
def test_what_a_codec_gives_back_that_isnt_bytes_is_no_answer(
    gives: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wrong, "gives", gives)
    with override_settings(IDEMPOTENCY_BODY_CODEC=f"{__name__}.Wrong"):
        post()
        repeat = post()
    assert repeat.json()["code"] == "answer-unavailable"


@cases("lost", {"key is gone": KEYS[1:2], "codec is off": [], "forged": KEYS[:1]})
def test_retry_whose_steps_cant_be_decoded_waits_for_the_key(
    lost: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    failing("/leased/")()
    effects = record().effects
    if lost == KEYS[:1]:
        one, two, *more = effects["steps"]
        change(effects={"steps": [{**one, "coded": two["coded"]}, two, *more]})
    row = IdempotencyRecord.objects.values().get()
    with encoding(*lost), caplog.at_level(logging.ERROR, "django_idempotency"):
        answers = [post("/leased/") for _ in range(2)]

    assert [each.json()["code"] for each in answers] == ["outcome-unknown"] * 2
    assert "undecodable" in caplog.text
    assert IdempotencyRecord.objects.values().get() == row
    change(effects=effects)
    assert post("/leased/").status_code == 201
    assert (scene.asked, Order.objects.count(), states()) == (1, 1, ["kept"])


def test_steps_before_and_after_the_switch_are_one_journal() -> None:
    with encoding():
        failing("/leased/")()
    answer = post("/leased/")
    assert (answer.status_code, scene.asked, Order.objects.count()) == (201, 1, 1)
    assert [each["result"] for each in record().steps][::2] == [
        {"card": NAME},
        {"name": NAME},
    ]


def test_long_journal_is_encoded_once_and_read_as_a_whole() -> None:
    def work() -> int:
        steps = current_operation()
        for number in range(120):
            steps.write(f"step-{number}", lambda: NAME)
        if scene.fails:
            raise TimeoutError
        return len(record().steps)

    scene.fails = True
    with suppress(TimeoutError):
        run_once("long", work, lease=LEASE)
    scene.fails = False
    before = record().earlier_steps
    assert run_once("long", work, lease=LEASE) == 120
    assert NAME.encode() not in stored()
    assert record().earlier_steps == before


@pytest.mark.parametrize("lost", [[], KEYS[1:2]], ids=["off", "key is gone"])
def test_task_whose_result_cant_be_decoded_raises(lost: list[str]) -> None:
    assert task() == task() == {"name": NAME}
    with encoding(*lost), pytest.raises(ValueError, match="can't be read"):
        task()
    assert Order.objects.count() == 1


@pytest.mark.parametrize("lost", [[], KEYS[1:2]], ids=["off", "key is gone"])
def test_word_that_cant_be_decoded_settles_nothing(
    lost: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    post("/held/")
    request = {"id": "req_1", "idempotency_key": keys[-1]}
    # The owner's lease is still live, so that the word is only stored.
    change(lease_expires_at="2100-01-01T00:00:00Z", state="in_flight")
    deliver("/told/", stripe(request=request, data=ABOUT, created=int(time.time())))
    change(lease_expires_at="2020-01-01T00:00:00Z")

    with encoding(*lost):
        assert post("/held/").json()["code"] == "outcome-unknown"
        change(state="held")
        assert post("/held/").json()["code"] == "outcome-unknown"
    assert "undecodable" in caplog.text
    assert scene.asked == 1
    assert post("/held/").status_code == 200
    assert (scene.asked, Order.objects.count()) == (1, 2)


@pytest.mark.parametrize("lost", [[], KEYS[1:2]], ids=["off", "key is gone"])
def test_payload_that_cant_be_decoded_waits_for_the_key(
    lost: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    event_to("/inbox/")
    with encoding(*lost):
        assert process_next() is Step.FAILED
    event = ProcessedEvent.objects.get()
    assert (event.state, event.uncounted_attempts) == ("failed", 1)
    assert "IDEMPOTENCY_BODY_CODEC" in caplog.text
    assert Order.objects.count() == 0

    ProcessedEvent.objects.update(next_attempt_at=event.received_at)
    assert process_next() is Step.PROCESSED
    assert Order.objects.count() == 1


@pytest.mark.parametrize("lost", [[], KEYS[1:2]], ids=["off", "key is gone"])
def test_dead_event_whose_payload_cant_be_decoded_stays_dead(lost: list[str]) -> None:
    failing("/dying/")()
    event = ProcessedEvent.objects.get()
    payload = bytes(event.payload or b"")
    with encoding(*lost):
        assert rerun(event, reason="looked at") is Step.DEAD
    event = ProcessedEvent.objects.get()
    assert (event.state, bytes(event.payload or b"")) == ("dead", payload)
    assert rerun(event, reason="the key is back") is Step.PROCESSED
    assert Order.objects.count() == 1


@pytest.mark.parametrize("lost", [[], KEYS[1:2]], ids=["off", "key is gone"])
def test_page_shows_what_is_encoded_or_says_that_it_cant(
    admin_client: Client, lost: list[str]
) -> None:
    post("/leased/")
    failing("/dying/")()
    rows = (record(), ProcessedEvent.objects.get())
    urls = [
        reverse(
            f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk]
        )
        for row in rows
    ]
    pages = [admin_client.get(url).content.decode() for url in urls]
    with encoding(*lost):
        blind = [admin_client.get(url) for url in urls]

    assert [NAME in page for page in pages] == [True, True]
    for page in blind:
        text = page.content.decode()
        assert (page.status_code, NAME in text, "be read" in text) == (200, False, True)
    for row in rows:
        assert NAME in (row.body or b"").decode()
        with encoding(*lost), pytest.raises(Undecodable):
            row.body  # noqa: B018


def test_no_statement_is_added() -> None:
    def counted(key: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            post("/leased/", key)
            post("/leased/", key)
        return len(queries)

    with encoding():
        counted(new_key())
        off = counted(new_key())
    assert counted(new_key()) == off


@cases(
    "settings",
    {
        "not there": {"IDEMPOTENCY_BODY_CODEC": "nowhere.Codec"},
        "no codec": {"IDEMPOTENCY_BODY_CODEC": "json.JSONDecoder"},
        "no key": {"IDEMPOTENCY_BODY_KEYS": []},
        "malformed key": {"IDEMPOTENCY_BODY_KEYS": ["secret"]},
    },
)
def test_codec_that_cant_be_used_is_found_before_anything_runs(
    settings: Any, client: Client
) -> None:
    with override_settings(**settings), pytest.raises(ImproperlyConfigured):
        client.post("/leased/", headers={"Idempotency-Key": new_key()})
    assert (scene.asked, Order.objects.count(), states()) == (0, 0, [])


def test_value_is_bound_to_its_place() -> None:
    codec, record_id = FernetCodec(KEYS[:1]), uuid.uuid4()
    token = codec.encode(b"x", at_rest.of_answer(record_id))
    assert codec.decode(token, at_rest.of_answer(record_id)) == b"x"
    with pytest.raises(ValueError, match="another row"):
        codec.decode(token, at_rest.of_payload(record_id))


def test_codec_of_the_page_binds_what_it_encodes() -> None:
    class Vault:
        def encrypt(self, data: bytes, associated_data: bytes) -> bytes:
            return FernetCodec(KEYS[:1]).encode(data, associated_data.decode())

        def decrypt(self, data: bytes, associated_data: bytes) -> bytes:
            return FernetCodec(KEYS[:1]).decode(data, associated_data.decode())

    page = "howto/what-is-stored"
    codec = run(block(page, "class VaultCodec"), {"vault": Vault()})["VaultCodec"]()
    assert codec.decode(codec.encode(b"x", "a"), "a") == b"x"
    with pytest.raises(ValueError, match="another row"):
        codec.decode(codec.encode(b"x", "a"), "b")


def test_settings_of_the_page_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("IDEMPOTENCY_BODY_KEYS", "NEW_KEY", "OLD_KEY")
    for name, key in zip(names, KEYS, strict=True):
        monkeypatch.setenv(name, key)
    given = {
        "IDEMPOTENCY_BODY_CODEC": CODEC,
        "IDEMPOTENCY_BODY_KEYS": KEYS[:1],
    }
    for code in blocks("howto/what-is-stored"):
        if "class " in code:
            continue
        found = run(code, {"os": os})
        pasted = {name: found[name] for name in found if name.isupper()}
        assert pasted
        with override_settings(**(given | pasted)):
            assert check_settings(None) == []
