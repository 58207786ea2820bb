"""What is told about each decision, and that telling it can't do harm."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import PermissionDenied
from django.db import connection, connections
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, TestCase
from django.urls import path, re_path
from django.utils.timezone import now

from django_idempotency import signals
from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.testapp.models import Order

from .ordering import JSON, orders, place_order, signed_in_client

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as ClientResponse

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

KEY = "8f14e45f-ceea-467f-a8d4-5c1b4a2c7a10"
SECRET = "correct-horse-battery-staple"  # noqa: S105 - it is looked for, not used
FORGED = "\nERROR root: the server is on fire"


@idempotent
def order(request: HttpRequest, **route: str) -> HttpResponse:
    return place_order(request)


@idempotent(required=False)
def order_with_or_without_key(request: HttpRequest) -> HttpResponse:
    return place_order(request)


@idempotent
def crash(request: HttpRequest, **route: str) -> HttpResponse:
    Order.objects.create()
    raise RuntimeError(SECRET)


@idempotent
def refuse(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied(SECRET)


@idempotent
def busy(request: HttpRequest) -> HttpResponse:
    return HttpResponse(SECRET, status=503)


@idempotent
def decline(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"error": SECRET}, status=402)


urlpatterns = [
    path("order/", order),
    path("optional/", order_with_or_without_key),
    path("crash/", crash),
    path("refuse/", refuse),
    path("busy/", busy),
    path("decline/", decline),
    re_path(r"^(?s:forged.+)/order/$", order),
    re_path(r"^(?s:forged.+)/crash/$", crash),
]


def post(
    url: str = "/order/",
    key: str | None = KEY,
    body: str = "{}",
    *,
    method: str = "post",
    client: Client | None = None,
) -> ClientResponse:
    client = client or signed_in_client(raise_request_exception=False)
    headers = {} if key is None else {"Idempotency-Key": key}
    response: ClientResponse = getattr(client, method)(
        url, body, content_type=JSON, headers=headers
    )
    return response


def twice(url: str = "/order/", second_body: str = "{}") -> None:
    post(url)
    post(url, body=second_body)


def meet(**fields: Any) -> None:
    """Order, change the record behind everybody's back, and order again."""
    post()
    IdempotencyRecord.objects.update(**fields)
    post()


def on_a_read_only_database() -> None:
    client = signed_in_client(raise_request_exception=False)
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
        post(client=client)
        cursor.execute("RESET default_transaction_read_only")


IN_FLIGHT = {"state": "in_flight", "response_status": None, "completed_at": None}

# What happens, and the action words that are logged and sent.
SITUATIONS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "kept": (post, ["claimed", "kept"]),
    "kept-error": (lambda: post("/decline/"), ["claimed", "kept"]),
    "replayed": (twice, ["claimed", "kept", "replayed"]),
    "mismatched": (
        lambda: twice(second_body='{"amount": 2}'),
        ["claimed", "kept", "mismatched"],
    ),
    "in-flight": (lambda: meet(**IN_FLIGHT), ["claimed", "kept", "in_flight"]),
    "renewed": (
        lambda: meet(expires_at=now()),
        ["claimed", "kept", "claimed", "kept"],
    ),
    "crashed": (lambda: post("/crash/"), ["claimed", "released"]),
    "refused": (lambda: post("/refuse/"), ["claimed", "released"]),
    "busy": (lambda: post("/busy/"), ["claimed", "released"]),
    "busy-again": (
        lambda: twice("/busy/"),
        ["claimed", "released", "claimed", "released"],
    ),
    "unkeyed": (lambda: post("/optional/", None), ["unkeyed"]),
    "unkeyed-and-refused": (lambda: post(key=None), ["unkeyed"]),
    "unkeyed-put": (lambda: post(key=None, method="put"), []),
    "key-that-cant-be-used": (lambda: post(key="a,b"), []),
}
each_situation = pytest.mark.parametrize("name", SITUATIONS)


# The log


def ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if each.name == "django_idempotency"]


def actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.action for each in ours(caplog) if hasattr(each, "action")]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "django_idempotency")
    return caplog


@each_situation
def test_each_decision_is_one_line_with_its_action(
    name: str, log: pytest.LogCaptureFixture
) -> None:
    happens, expected = SITUATIONS[name]
    happens()

    assert actions(log) == expected


@each_situation
def test_decisions_are_logged_as_information(
    name: str, log: pytest.LogCaptureFixture
) -> None:
    SITUATIONS[name][0]()

    assert {each.levelname for each in ours(log)} <= {"INFO"}


def test_line_leads_to_the_record(log: pytest.LogCaptureFixture) -> None:
    post()
    (record_id,) = {each.record_id for each in ours(log)}  # type: ignore[attr-defined]

    assert record_id == str(IdempotencyRecord.objects.get().pk)


def test_line_of_a_request_without_key_leads_to_the_request(
    log: pytest.LogCaptureFixture,
) -> None:
    """Rolling out: whoever still sends no key has to be found."""
    client = signed_in_client("ann")
    post("/optional/", None, client=client)
    (line,) = ours(log)
    request: HttpRequest = line.request  # type: ignore[attr-defined]

    assert (request.path, str(request.user)) == ("/optional/", "ann")


HOSTILE_URLS = ["/order/", "/crash/", "/busy/", "/refuse/", "/decline/", "/optional/"]
HOSTILE_URLS += ["/forged%0aERROR%20root:%20the%20server%20is%20on%20fire/order/"]
HOSTILE_URLS += ["/forged%0aERROR%20root:%20the%20server%20is%20on%20fire/crash/"]


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_no_line_holds_key_body_secret_or_path(
    url: str, log: pytest.LogCaptureFixture
) -> None:
    """FR-064: not in the message, and not in what a formatter may add to it."""
    body = f'{{"card": "{SECRET}"}}'
    for key, each in (
        (KEY, body),
        (KEY, body),
        (KEY, "{}"),
        (None, body),
        ("a,b", body),
    ):
        post(url, key, each)
    IdempotencyRecord.objects.update(**IN_FLIGHT)
    post(url, KEY, body)
    told = [
        f"{each.getMessage()} {getattr(each, 'action', '')} {getattr(each, 'record_id', '')}"
        for each in ours(log)
    ]

    assert told
    assert not [
        line
        for line in told
        if any(part in line for part in (KEY, SECRET, FORGED, "\n", "order/", "a,b"))
    ]


@pytest.mark.postgresql
def test_database_that_takes_nothing_is_an_error_without_the_key(
    log: pytest.LogCaptureFixture,
) -> None:
    on_a_read_only_database()
    (line,) = ours(log)

    assert (line.levelname, KEY in logging.Formatter().format(line)) == ("ERROR", False)


def test_answer_that_cant_be_read_is_an_error_that_leads_to_the_record(
    log: pytest.LogCaptureFixture,
) -> None:
    """FR-017."""
    meet(response_headers="nonsense")
    line: Any = ours(log)[-1]
    record_id = str(IdempotencyRecord.objects.get().pk)

    assert (line.levelname, line.record_id) == ("ERROR", record_id)


@pytest.mark.parametrize(
    ("happens", "action"),
    [
        pytest.param(
            lambda: meet(response_headers="nonsense"), "unreadable", id="unreadable"
        ),
        pytest.param(lambda: meet(state="held"), "held", id="held"),
        pytest.param(
            on_a_read_only_database,
            "unavailable",
            marks=pytest.mark.postgresql,
            id="unavailable",
        ),
    ],
)
def test_each_refusal_that_needs_a_person_has_an_action_too(
    happens: Callable[[], Any], action: str, log: pytest.LogCaptureFixture
) -> None:
    happens()

    assert actions(log)[-1:] == [action]


def test_nothing_is_shown_by_default(caplog: pytest.LogCaptureFixture) -> None:
    """A busy site's log is not ours to fill."""
    assert not logging.getLogger("django_idempotency").isEnabledFor(logging.INFO)


# The signals


@contextmanager
def connected(receiver: Callable[..., Any], *names: str) -> Iterator[None]:
    for name in names:
        signal_named(name).connect(receiver)
    try:
        yield
    finally:
        for name in names:
            signal_named(name).disconnect(receiver)


def signal_named(name: str) -> Signal:
    signal: Signal = getattr(signals, name)
    return signal


# Those of webhook events have tests of their own.
SIGNALS = [name for name in signals.__all__ if not name.startswith("event_")]


@pytest.fixture
def sent() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """All signals, with what they carry, in order."""
    heard: list[tuple[str, dict[str, Any]]] = []
    names = {id(signal_named(name)): name for name in SIGNALS}

    def hear(signal: Signal, **arguments: Any) -> None:
        heard.append((names[id(signal)], arguments))

    with connected(hear, *SIGNALS):
        yield heard


def names_of(heard: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [name for name, _ in heard]


@each_situation
def test_each_decision_is_one_signal_of_that_name(
    name: str, sent: list[tuple[str, dict[str, Any]]]
) -> None:
    happens, expected = SITUATIONS[name]
    happens()

    assert names_of(sent) == expected


def test_every_signal_is_sent_in_some_situation() -> None:
    assert {
        action for _, expected in SITUATIONS.values() for action in expected
    } == set(SIGNALS)


def test_signal_carries_the_operation(sent: list[tuple[str, dict[str, Any]]]) -> None:
    post()
    carried = [
        (
            arguments["sender"],
            str(arguments["operation"].scope),
            arguments["operation"].key,
        )
        for _, arguments in sent
    ]

    assert (
        carried == [(IdempotencyRecord, IdempotencyRecord.objects.get().scope, KEY)] * 2
    )


def test_signal_of_a_request_without_key_carries_the_request(
    sent: list[tuple[str, dict[str, Any]]],
) -> None:
    post("/optional/", None)
    ((_, arguments),) = sent

    assert (arguments["sender"], arguments["request"].path) == (
        IdempotencyRecord,
        "/optional/",
    )


def seen_by_somebody_else() -> tuple[int, list[str]]:
    """What another connection sees at this moment: orders and states of records."""
    seen: list[tuple[int, list[str]]] = []

    def look() -> None:
        states = IdempotencyRecord.objects.values_list("state", flat=True)
        seen.append((orders(), list(states)))
        connections.close_all()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(30)
    return seen[0]


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("url", "name", "expected"),
    [
        ("/order/", "claimed", (1, ["kept"])),
        ("/order/", "kept", (1, ["kept"])),
        ("/crash/", "claimed", (0, ["released"])),
        ("/crash/", "released", (0, ["released"])),
        ("/busy/", "released", (0, ["released"])),
        ("/refuse/", "released", (0, [])),
    ],
)
def test_signal_comes_when_everybody_can_see_what_it_tells(
    url: str, name: str, expected: tuple[int, list[str]]
) -> None:
    seen: list[tuple[int, list[str]]] = []

    def look(**arguments: Any) -> None:
        seen.append(seen_by_somebody_else())

    with connected(look, name):
        post(url)

    assert seen == [expected]


@pytest.mark.parametrize("name", SIGNALS)
def test_signal_is_sent_outside_of_any_transaction(name: str) -> None:
    open_transactions: list[bool] = []

    def look(**arguments: Any) -> None:
        open_transactions.append(connection.in_atomic_block)

    with connected(look, name):
        for happens, _ in SITUATIONS.values():
            happens()
            IdempotencyRecord.objects.all().delete()

    assert set(open_transactions) == {False}


class Careless(Exception):
    pass


def careless(**arguments: Any) -> None:
    Order.objects.create(amount=-1)
    raise Careless(SECRET)


def answers_of_all_situations() -> list[tuple[int, str | None]]:
    answers = []
    for url, key, body in [
        ("/order/", KEY, "{}"),
        ("/order/", KEY, "{}"),
        ("/order/", KEY, '{"amount": 2}'),
        ("/busy/", KEY, "{}"),
        ("/refuse/", KEY, "{}"),
        ("/crash/", KEY, "{}"),
        ("/decline/", KEY, "{}"),
        ("/decline/", KEY, "{}"),
        ("/optional/", None, "{}"),
        ("/order/", None, "{}"),
    ]:
        response = post(url, key, body)
        answers.append((response.status_code, response.headers.get("Content-Type")))
    return answers


def test_receivers_that_raise_do_no_harm() -> None:
    without = answers_of_all_situations()
    IdempotencyRecord.objects.all().delete()
    with connected(careless, *signals.__all__):
        assert answers_of_all_situations() == without


def test_receiver_that_raises_does_not_run_the_view_again() -> None:
    with connected(careless, *signals.__all__):
        twice()

    assert Order.objects.filter(amount=0).count() == 1


def test_receiver_that_raises_is_logged_by_django(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with connected(careless, "kept"):
        post()

    assert [each.name for each in caplog.records] == ["django.dispatch"]


def test_receiver_that_raises_does_not_silence_the_others() -> None:
    heard: list[str] = []

    def hear(**arguments: Any) -> None:
        heard.append("kept")

    with connected(careless, "kept"), connected(hear, "kept"):
        post()

    assert heard == ["kept"]


class InTestCase(TestCase):
    """FR-106: a project's own plain tests."""

    def test_kept_is_sent_when_commit_callbacks_are_run(self) -> None:
        heard: list[str] = []

        def hear(**arguments: Any) -> None:
            heard.append("kept")

        with connected(hear, "kept"):
            post()
            before = list(heard)
            with self.captureOnCommitCallbacks(execute=True):
                post(key="another")

        assert (before, heard) == ([], ["kept"])
