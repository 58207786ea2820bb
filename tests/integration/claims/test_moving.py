"""The stores of old packages: what stands there is honoured, and claimed beside ours.

The tables are made here, with the columns that the packages make. That the packages
agree is shown by `tests/third_party/moving`, where they are installed.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connection, connections, models, transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.test.utils import isolate_apps
from django.urls import path
from django.utils import timezone

from django_idempotency.checks.settings import check_settings
from django_idempotency.contrib import moving
from django_idempotency.contrib.moving.base import TableStore
from django_idempotency.contrib.moving.functions import _encoded
from django_idempotency.decorators import idempotent
from django_idempotency.http.moving import Asked
from tests.support.cases import cases
from tests.support.ordering import (
    FORM,
    GUEST_KEY,
    ONCE,
    orders,
    place_order,
    send,
    signed_in_client,
    word,
    words,
)
from tests.support.pages import block, run
from tests.support.threads import second_connection
from tests.testapp.models import Order

KEY = GUEST_KEY
ASKING = "django_idempotency.middleware.OutcomeMiddleware"
BRIEFLY = timedelta(milliseconds=200)
ANSWER = moving.StoredAnswer(
    status=202,
    headers=(("Content-Type", "application/json"), ("X-Made-By", "the old one")),
    body=b'{"old": true}',
)


def fail(request: HttpRequest) -> HttpResponse:
    place_order(request)
    raise RuntimeError


def answer_bytes(request: HttpRequest) -> HttpResponse:
    Order.objects.create()
    return HttpResponse(b"\xff\x00", content_type="application/octet-stream")


def answer_text(request: HttpRequest) -> HttpResponse:
    Order.objects.create()
    return HttpResponse(b"paid", content_type="text/plain")


def answer_nul(request: HttpRequest) -> HttpResponse:
    Order.objects.create()
    return HttpResponse(b"paid\0", content_type="text/plain")


def answer_nothing(request: HttpRequest) -> HttpResponse:
    Order.objects.create()
    return HttpResponse(status=204)


def be_busy(request: HttpRequest) -> HttpResponse:
    Order.objects.create()
    return HttpResponse(status=503)


async def leased(request: HttpRequest) -> HttpResponse:
    raise AssertionError("it must not run")


minute = timedelta(minutes=1)
VIEWS: dict[str, Any] = {
    "orders": idempotent(place_order),
    "fail": idempotent(fail),
    "busy": idempotent(be_busy),
    "unkept": idempotent(keep=lambda response: False)(place_order),
    "text": idempotent(answer_text),
    "nul": idempotent(answer_nul),
    "bytes": idempotent(answer_bytes),
    "bodiless": idempotent(keep_body=False)(place_order),
    "nothing": idempotent(answer_nothing),
    "leased": idempotent(lease=minute)(place_order),
    "async": idempotent(lease=minute)(leased),
}
urlpatterns = [path(f"{name}/", view) for name, view in VIEWS.items()]

STORES: dict[str, Callable[..., TableStore]] = {
    "drf-idempotency": moving.DrfIdempotency,
    "drf-idempotencykey": moving.DrfIdempotencykey,
    "djangorestframework-idempotency-key": lambda **options: (
        moving.DjangorestframeworkIdempotencyKey(lock_timeout=minute, **options)
    ),
    "idemkit": lambda **options: moving.Idemkit(
        scope=lambda request: str(request.user.pk), **options
    ),
}
TIMES = {
    "drf-idempotency": "expires_at",
    "drf-idempotencykey": "created_at",
    "djangorestframework-idempotency-key": "locked_at",
    "idemkit": "lease_until",
}
KEPT_FOR_EVER = "djangorestframework-idempotency-key"

store: Any = None
"""What the setting leads to."""

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]
only_postgresql = pytest.mark.postgresql


def case(package: str, *values: str) -> Any:
    marks = [only_postgresql] if package == "idemkit" else []
    return pytest.param(package, *values, marks=marks)


each_package = pytest.mark.parametrize("package", [case(name) for name in STORES])


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], Any]]:
    """Move away from a store, of whose table there is none yet."""
    made: list[type[models.Model]] = []

    def used(old: Any) -> Any:
        monkeypatch.setattr(f"{__name__}.store", old)
        if isinstance(old, TableStore):
            with connection.schema_editor() as editor:
                editor.create_model(old.model)
            made.append(old.model)
        return old

    with override_settings(IDEMPOTENCY_MOVING_FROM=f"{__name__}.store"):
        yield used
    for model in made:
        with connection.schema_editor() as editor:
            editor.delete_model(model)


def asked(body: bytes = b"{}", at: str = "/orders/") -> Asked:
    """The request that `send` sends, as a store is asked about it."""
    request = RequestFactory().generic("POST", at, body, "application/json")
    request.user = User.objects.get_or_create(username="ann")[0]
    request.body  # noqa: B018 - as it is when a store is asked
    return Asked(request=request, key=KEY, body=body, retention=minute, using="default")


def found(old: TableStore, at: str = "/orders/") -> moving.StoredAnswer:
    """What a repeat would get of the old store."""
    with transaction.atomic():
        verdict = old.claim(asked(at=at))
    assert isinstance(verdict, moving.Replay)
    return verdict.answer


def rows(old: TableStore) -> Any:
    return old.model._base_manager.using("default")


def write(old: TableStore, package: str, state: str) -> None:
    """Leave a row as the old package does."""
    this = asked(b"other" if state.startswith("other") else b"{}")
    identity = old.identity(this)
    assert identity is not None
    rows(old).create(**identity, **old.claimed(this))
    if state.endswith("answered"):
        rows(old).update(**old.answered(this, ANSWER))
    if state.startswith("old"):
        rows(old).update(**{TIMES[package]: timezone.now() - timedelta(days=999)})


STATES = {
    "answered": ["202 replayed", "202 replayed"],
    "under way": ["409 in-flight", "409 in-flight"],
    "other, under way": ["422 key-reused", "422 key-reused"],
    "other, answered": ["422 key-reused", "422 key-reused"],
    "old, under way": ["409 outcome-unknown", "409 outcome-unknown"],
    "old, answered": ["201", "201 replayed"],
}
NEVER = [(KEPT_FOR_EVER, "old, answered")]
"""Its answers have no end."""


@pytest.mark.parametrize(
    ("package", "state"),
    [
        case(package, state)
        for package in STORES
        for state in STATES
        if (package, state) not in NEVER
    ],
)
def test_what_stands_in_the_old_store_is_honoured(
    use: Any, package: str, state: str
) -> None:
    old = use(STORES[package]())
    write(old, package, state)

    answers = [send(signed_in_client(), key=KEY) for _ in range(2)]

    assert [word(each) for each in answers] == STATES[state]
    assert orders() == STATES[state].count("201")
    if state == "answered":
        assert {each.content for each in answers} == {ANSWER.body}


def test_log_tells_of_a_claim_that_is_released_and_of_the_replay(
    use: Any, caplog: pytest.LogCaptureFixture
) -> None:
    write(use(STORES["drf-idempotency"]()), "drf-idempotency", "answered")
    caplog.set_level("INFO", "django_idempotency")

    send(signed_in_client(), key=KEY)

    told = [vars(each).get("action") for each in caplog.records]
    assert told == ["claimed", "released", "replayed"]


@only_postgresql  # on SQLite, who writes has the whole database
@each_package
def test_another_session_that_holds_the_key_is_waited_for(
    use: Any, package: str
) -> None:
    """As an old process with ATOMIC_REQUESTS does, whose claim isn't committed."""
    old = use(STORES[package]())
    identity = old.identity(asked())
    with second_connection() as other, override_settings(IDEMPOTENCY_WAIT=BRIEFLY):
        other.alias = "other"
        connections["other"] = other
        try:
            with transaction.atomic(using="other"):
                values = {**identity, **old.claimed(asked())}
                old.model._base_manager.using("other").create(**values)
                busy = word(send(signed_in_client(), key=KEY))
        finally:
            del connections["other"]

    assert busy == "409 in-flight"
    assert orders() == 0


@each_package
def test_abandoned_claim_is_taken_over_if_the_project_says_so(
    use: Any, package: str
) -> None:
    old = use(STORES[package](take_over=True))
    write(old, package, "old, under way")

    words = [word(send(signed_in_client(), key=KEY)) for _ in range(2)]

    assert words == ["201", "201 replayed"]
    assert found(old).status == 201


@each_package
@cases(
    "url, left",
    {
        "kept": ("/orders/", 201),
        "rolled back": ("/fail/", None),
        "rolled back by its answer": ("/busy/", None),
        "committed and not kept": ("/unkept/", None),
        "no JSON": ("/text/", {200, 409}),
        "a character that no column takes": ("/nul/", {200, 409}),
        "no text": ("/bytes/", {200, 409}),
        "kept without its body": ("/bodiless/", 409),
        "empty": ("/nothing/", 204),
    },
)
def test_old_store_has_what_ours_has_after_each_end(
    use: Any, package: str, url: str, left: Any
) -> None:
    """So that an old process answers, refuses or runs as we would."""
    old = use(STORES[package]())

    send(signed_in_client(raise_request_exception=False), url, key=KEY)

    if left is None:
        assert not rows(old).exists()
        return
    assert found(old, url).status in (left if isinstance(left, set) else {left})


@cases(
    "package, key, method",
    {
        "no UUID": ("drf-idempotencykey", "k-" + "7" * 40, "POST"),
        "no UUID, of anybody": (KEPT_FOR_EVER, "k-" + "7" * 40, "POST"),
        "no method of its own": (KEPT_FOR_EVER, KEY, "DELETE"),
    },
)
def test_keys_that_the_old_package_refuses_are_ours_alone(
    use: Any, package: str, key: str, method: str
) -> None:
    old = use(STORES[package]())
    client = signed_in_client()
    words = [word(send(client, key=key, method=method)) for _ in range(2)]
    unkept = word(send(client, "/unkept/", key=key, method=method))

    assert (words, unkept) == (["201", "201 replayed"], "201")
    assert not rows(old).exists()


def test_key_of_a_form_and_a_body_that_was_refused_are_ours_alone(use: Any) -> None:
    old = use(STORES["drf-idempotency"]())
    field = send(
        signed_in_client(), body=f"idempotency_key={KEY}", content_type=FORM, key=None
    )
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=1):
        long = send(signed_in_client(), key="long")

    assert [word(field), word(long)] == ["201", "201"]
    assert not rows(old).exists()


def test_key_that_no_column_takes_is_ours_alone(use: Any) -> None:
    old = use(STORES["drf-idempotency"]())
    key = f'"{"k" * 255}"'

    assert words(signed_in_client(), key=key) == ONCE
    assert not rows(old).exists()


def test_headers_that_are_never_replayed_are_not_from_there_either(use: Any) -> None:
    """Middleware above the old package's has left them in its answer."""
    old = use(STORES["drf-idempotency"]())
    write(old, "drf-idempotency", "answered")
    kept = {"Content-Type": "text/plain", "X-Made-By": "the old one"}
    denied = {"Connection": "close", "Content-Length": "7", "WWW-Authenticate": "Basic"}
    rows(old).update(response_headers=kept | denied)

    answer = send(signed_in_client(), key=KEY)

    assert kept.items() <= dict(answer.headers).items()
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert not {"Connection", "WWW-Authenticate"} & answer.headers.keys()


@each_package
@pytest.mark.parametrize("is_answered", [True, False])
def test_who_asks_is_not_told_that_a_key_of_the_old_store_is_unknown(
    use: Any, package: str, is_answered: bool
) -> None:
    """Only with the content could it be found there."""
    old, client = use(STORES[package]()), signed_in_client()
    if is_answered:
        write(old, package, "answered")
    headers = {"Idempotency-Key": KEY, "Idempotency-Ask": "POST"}
    with override_settings(MIDDLEWARE=[ASKING, *settings.MIDDLEWARE]):
        asked = word(client.get("/orders/", headers=headers))
        answered = word(send(client, key="ours"))
        headers["Idempotency-Key"] = "ours"
        asked_again = word(client.get("/orders/", headers=headers))

    assert [asked, answered, asked_again] == ["503 state-unavailable", *ONCE]


@cases(
    "old",
    {
        "a table of a package": lambda: Incomplete(),
        "a function of one's own": lambda: moving.HandWritten(
            find_nothing, claim=claim_incompletely, keep=print, release=print
        ),
    },
)
def test_claim_that_breaks_another_constraint_is_an_error(use: Any, old: Any) -> None:
    """Not a key that is under way, for ever and without a word."""
    use(old())

    with pytest.raises(IntegrityError):
        send(signed_in_client(), key=KEY)

    assert orders() == 0


def claim_incompletely(request: HttpRequest, key: str) -> None:
    Order.objects.create(amount=None)  # type: ignore[misc]


class Incomplete(moving.DrfIdempotency):
    """As the table of another version, which has one more column."""

    def claimed(self, asked: Asked) -> dict[str, Any]:
        return {**super().claimed(asked), "fingerprint": None}


class Colliding(moving.DrfIdempotency):
    """Its insert is refused, and there is no row under its key."""

    def claimed(self, asked: Asked) -> dict[str, Any]:
        return {**super().claimed(asked), "id": 1}


def test_row_that_is_gone_when_it_is_looked_at_is_in_flight(use: Any) -> None:
    old = use(Colliding())
    rows(old).create(key="another", **old.claimed(asked()))

    assert word(send(signed_in_client(), key=KEY)) == "409 in-flight"


def test_own_recovery_points_are_left_to_people(use: Any) -> None:
    old = use(STORES[KEPT_FOR_EVER]())
    write(old, KEPT_FOR_EVER, "under way")
    rows(old).update(recovery_point="mine", locked_at=None)
    assert word(send(signed_in_client(), key=KEY)) == "409 outcome-unknown"

    rows(old).update(recovery_point="started")  # rolled back there, with its work
    assert word(send(signed_in_client(), key=KEY)) == "201"


@pytest.mark.parametrize("url", ["/leased/", "/async/"])
def test_lease_is_refused_during_the_move(use: Any, url: str) -> None:
    use(STORES["drf-idempotency"]())

    with pytest.raises(ImproperlyConfigured, match="when the move is over"):
        send(signed_in_client(), url, key=KEY)

    assert orders() == 0


def test_missing_table_is_named(use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.store", STORES["drf-idempotency"]())

    with pytest.raises(ImproperlyConfigured, match="drf_idempotency_idempotencyrecord"):
        send(signed_in_client(), key=KEY)

    assert orders() == 0


def find_nothing(request: HttpRequest, key: str) -> None:
    return None


@cases(
    "make, said",
    {
        "another backend": (
            override_settings(IDEMPOTENCY={"BACKEND": "x.RedisBackend"})(
                lambda: moving.DrfIdempotency()
            ),
            "x.RedisBackend",
        ),
        "scope": (lambda: moving.Idemkit(scope="ann"), "must be a function"),  # type: ignore[arg-type]
        "half": (
            lambda: moving.HandWritten(find_nothing, claim=print),
            "together",
        ),
        "side by side": (
            lambda: moving.HandWritten(find_nothing),
            "old_processes_stopped=True",
        ),
        "no claim": (
            lambda: moving.DjangoIdempotencyKey(old_processes_stopped=False),
            "claims nothing",
        ),
        "memory": (
            override_settings(IDEMPOTENCY_KEY={})(
                lambda: moving.DjangoIdempotencyKey(old_processes_stopped=True)
            ),
            "nothing to honour",
        ),
        "own encoder": (
            override_settings(
                IDEMPOTENCY_KEY={"STORAGE": {"CLASS": "x"}, "ENCODER_CLASS": "y"}
            )(lambda: moving.DjangoIdempotencyKey(old_processes_stopped=True)),
            "encoder=",
        ),
    },
)
def test_what_cannot_be_had_is_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=said):
        make()


def test_idemkit_has_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "django_idempotency.contrib.moving.idemkit.FINGERPRINTS", "not_there"
    )
    with pytest.raises(ImproperlyConfigured, match='pip install "idemkit'):
        moving.Idemkit(scope=None)


@cases(
    "reader, words",
    {
        "without": (None, ["409 answer-unavailable", "201"]),
        "with": (lambda stored: ANSWER, ["202 replayed", "201"]),
    },
)
def test_pickles_are_not_opened(use: Any, reader: Any, words: list[str]) -> None:
    with override_settings(IDEMPOTENCY_KEY={"STORAGE": {"CLASS": "x.CacheKeyStorage"}}):
        use(moving.DjangoIdempotencyKey(old_processes_stopped=True, reader=reader))
    cache.set(_encoded(asked().request, KEY), b"what a pickle would do")
    try:
        said = [
            word(send(signed_in_client(), url, key=KEY))
            for url in ("/orders/", "/unkept/")
        ]
    finally:
        cache.clear()

    assert said == words


@isolate_apps("tests.testapp")
def test_table_of_the_page_and_its_functions(use: Any) -> None:
    page = "howto/move-over"
    names: dict[str, Any] = {"__name__": "tests.testapp.old", "models": models}
    run(block(page, "class OldKey"), names)
    model = names["OldKey"]
    run(block(page, "def claim"), names)
    client = signed_in_client()
    ann = User.objects.get(username="ann").pk
    with connection.schema_editor() as editor:
        editor.create_model(model)
    try:
        use(names["old_store"])
        rows = model.objects
        words = [word(send(client, key="new")) for _ in range(2)]
        assert rows.get().status == 201
        word(send(client, "/unkept/", key="unkept"))
        assert rows.count() == 1
        for key, at, status in (
            ("done", "/orders/", 200),
            ("busy", "/orders/", None),
            ("other", "/x/", 200),
        ):
            rows.create(key=key, user_id=ann, path=at, status=status, body="{}")
            words.append(word(send(client, key=key)))
        use(run(block(page, "find, old_processes_stopped"), names)["old_store"])
        words += [word(send(client, key=key)) for key in ("done", "unheard-of")]
        assert word(send(client, "/unkept/", key="unheard-of")) == "201"
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(model)

    assert words == [
        "201",
        "201 replayed",
        "200 replayed",
        "409 in-flight",
        "422 key-reused",
        "200 replayed",
        "201",
    ]


BLOCKS = {
    "DrfIdempotency": "DrfIdempotency()",
    "DrfIdempotencykey": "DrfIdempotencykey()",
    "DjangorestframeworkIdempotencyKey": "DjangorestframeworkIdempotencyKey()",
    "Idemkit": "old_store = Idemkit(",
    "DjangoIdempotencyKey": "old_store = DjangoIdempotencyKey(",
}


@pytest.mark.parametrize("name", BLOCKS)
def test_old_store_of_the_page_is_one(name: str) -> None:
    names = run(block("howto/move-over", BLOCKS[name]), {})
    assert type(names["old_store"]) is getattr(moving, name)


@pytest.mark.parametrize(
    "wrong", ["nowhere", "tests.nowhere.at_all", 7, f"{__name__}.TableStore"]
)
def test_setting_that_leads_to_no_store_is_reported(wrong: Any) -> None:
    with override_settings(IDEMPOTENCY_MOVING_FROM=wrong):
        ids = [message.id for message in check_settings(None)]

    assert ids == ["django_idempotency.E054"]


def test_settings_of_the_old_package_are_not_taken_for_a_slip(use: Any) -> None:
    use(moving.DrfIdempotencykey())
    with override_settings(IDEMPOTENCY_KEY_EXPIRATION_MINUTES=5):
        assert check_settings(None) == []
        assert moving.DrfIdempotencykey().expiration == timedelta(minutes=5)


def test_answer_of_a_type_of_which_no_body_was_kept_has_none(use: Any) -> None:
    old = use(moving.DrfIdempotencykey())
    write(old, "drf-idempotencykey", "answered")
    rows(old).update(response_content_type="image/png", response_body="")

    answer = send(signed_in_client(), key=KEY)

    assert answer.headers["Idempotency-Replay"] == "omitted"
