"""What is told about each decision, and that telling it can't do harm."""

from __future__ import annotations

import logging
import logging.config
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.db.models.functions import Now
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse
from django.test import Client, TestCase
from django.urls import path, re_path
from django.utils.timezone import now

from django_idempotency import signals
from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.support.ordering import (
    forgiving_client,
    orders,
    place_order,
    send,
    signed_in_client,
)
from tests.support.records import states
from tests.support.threads import TIMEOUT, crew, start
from tests.testapp.models import Order

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as ClientResponse

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

KEY = "8f14e45f-ceea-467f-a8d4-5c1b4a2c7a10"
SECRET = "correct-horse-battery-staple"  # noqa: S105 - it is looked for, not used
FORGED = "\nERROR root: the server is on fire"


@idempotent
def order(request: HttpRequest, **route: str) -> HttpResponse:
    return place_order(request)


@idempotent
def crash(request: HttpRequest, **route: str) -> HttpResponse:
    Order.objects.create()
    raise RuntimeError(SECRET)


@idempotent
def refuse(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied(SECRET)


@idempotent
def answer(request: HttpRequest, status: int) -> HttpResponse:
    return HttpResponse(SECRET, status=status)


urlpatterns = [
    path("order/", order),
    path("optional/", idempotent(required=False)(place_order)),
    path("crash/", crash),
    path("refuse/", refuse),
    path("busy/", answer, {"status": 503}),
    path("wary/", idempotent(intent_window=timedelta(seconds=30))(place_order)),
    path("decline/", answer, {"status": 402}),
    re_path(r"^(?s:forged.+)/order/$", order),
    re_path(r"^(?s:forged.+)/crash/$", crash),
]


def post(
    url: str = "/order/",
    key: str | None = KEY,
    body: str = "{}",
    *,
    method: str = "POST",
    client: Client | None = None,
) -> ClientResponse:
    return send(client or forgiving_client(), url, body, key=key, method=method)


def twice(url: str = "/order/", second_body: str = "{}") -> None:
    post(url)
    post(url, body=second_body)


def meet(**fields: Any) -> None:
    """Order, change the record behind everybody's back, and order again."""
    post()
    IdempotencyRecord.objects.update(**fields)
    post()


def on_a_read_only_database() -> None:
    client = forgiving_client()
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
        post(client=client)
        cursor.execute("RESET default_transaction_read_only")


TOMBSTONE = {"state": "expired", "remembered_until": Now() + timedelta(days=1)}
LOST = {"state": "in_flight", "response_status": None, "completed_at": None}
IN_FLIGHT = {**LOST, "lease_expires_at": Now() + timedelta(minutes=1)}

# What happens, and the action words that are logged and sent.
SITUATIONS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "kept": (post, ["claimed", "kept"]),
    "kept-error": (lambda: post("/decline/"), ["claimed", "kept"]),
    "replayed": (twice, ["claimed", "kept", "replayed"]),
    "mismatched": (
        lambda: twice(second_body='{"amount": 2}'),
        ["claimed", "kept", "mismatched"],
    ),
    "possible-duplicate": (
        lambda: (post("/wary/"), post("/wary/", KEY[::-1])),
        ["claimed", "kept", "possible_duplicate"],
    ),
    "in-flight": (lambda: meet(**IN_FLIGHT), ["claimed", "kept", "in_flight"]),
    "held": (lambda: meet(state="held"), ["claimed", "kept", "held"]),
    "expired": (lambda: meet(**TOMBSTONE), ["claimed", "kept", "expired"]),
    "renewed": (lambda: meet(expires_at=now()), ["claimed", "kept", "claimed", "kept"]),
    "crashed": (lambda: post("/crash/"), ["claimed", "released"]),
    "refused": (lambda: post("/refuse/"), ["claimed", "released"]),
    "busy": (lambda: post("/busy/"), ["claimed", "released"]),
    "busy-again": (
        lambda: twice("/busy/"),
        ["claimed", "released", "claimed", "released"],
    ),
    "unkeyed": (lambda: post("/optional/", None), ["unkeyed"]),
    "unkeyed-and-refused": (lambda: post(key=None), ["unkeyed"]),
    "unkeyed-put": (lambda: post(key=None, method="PUT"), []),
    "key-that-cant-be-used": (lambda: post(key="a,b"), []),
}
each_situation = pytest.mark.parametrize("name", SITUATIONS)


OF_PEOPLE = {"dropped", "erased", "forgotten", "freed", "rerun", "settled"}
# Those of webhook events, and of what people do, have tests of their own.
SIGNALS = {
    getattr(signals, name): name
    for name in signals.__all__
    if not name.startswith("event_") and name not in OF_PEOPLE
}
Sent = list[tuple[str, dict[str, Any]]]


@contextmanager
def connected(receiver: Callable[..., Any], *names: str) -> Iterator[None]:
    chosen: list[Signal] = [getattr(signals, name) for name in names]
    for signal in chosen:
        signal.connect(receiver)
    try:
        yield
    finally:
        for signal in chosen:
            signal.disconnect(receiver)


@pytest.fixture
def sent() -> Iterator[Sent]:
    """All signals, with what they carry, in order."""
    heard: Sent = []

    def hear(signal: Signal, **arguments: Any) -> None:
        arguments["in_transaction"] = connection.in_atomic_block
        heard.append((SIGNALS[signal], arguments))

    with connected(hear, *SIGNALS.values()):
        yield heard


def ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if each.name == "django_idempotency"]


def actions(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.action for each in ours(caplog) if hasattr(each, "action")]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "django_idempotency")
    return caplog


@each_situation
def test_each_decision_is_one_line_of_information_and_one_signal(
    name: str, log: pytest.LogCaptureFixture, sent: Sent
) -> None:
    happens, expected = SITUATIONS[name]
    happens()

    assert actions(log) == expected
    told = [(each.levelname, getattr(each, "action", "")) for each in ours(log)]
    assert {level for level, action in told if action != "held"} <= {"INFO"}
    assert {level for level, action in told if action == "held"} <= {"WARNING"}
    assert [signal for signal, _ in sent] == expected
    assert {each["in_transaction"] for _, each in sent} <= {False}


def test_line_and_signal_name_the_record(
    log: pytest.LogCaptureFixture, sent: Sent
) -> None:
    post()
    record = IdempotencyRecord.objects.get()

    assert {each.record_id for each in ours(log)} == {str(record.pk)}  # type: ignore[attr-defined]
    assert len(sent) == 2
    for _, carried in sent:
        operation = carried["operation"]
        assert carried["sender"] is IdempotencyRecord
        assert (str(operation.scope), operation.key) == (record.scope, KEY)


def test_line_and_signal_of_a_request_without_key_lead_to_the_request(
    log: pytest.LogCaptureFixture, sent: Sent
) -> None:
    """Rolling out: whoever still sends no key has to be found."""
    post("/optional/", None, client=signed_in_client("ann"))
    (line,), ((_, carried),) = ours(log), sent
    request: HttpRequest = line.request  # type: ignore[attr-defined]

    assert (request.path, str(request.user)) == ("/optional/", "ann")
    assert carried["sender"] is IdempotencyRecord
    assert carried["request"] is request


HOSTILE_URLS = ["/order/", "/crash/", "/busy/", "/refuse/", "/decline/", "/optional/"]
HOSTILE_URLS += [f"/forged{quote(FORGED)}/{name}/" for name in ("order", "crash")]


@pytest.mark.parametrize("url", HOSTILE_URLS)
def test_no_line_has_key_or_secret_or_is_forged(
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
    for part in (KEY, SECRET, FORGED, "\n", "a,b"):
        assert not [line for line in told if part in line]


@pytest.mark.parametrize(
    ("happens", "level", "action"),
    [
        # FR-017: the error leads to the record.
        (lambda: meet(response_headers="nonsense"), "ERROR", "unreadable"),
        (lambda: meet(state="held"), "WARNING", "held"),
        pytest.param(
            on_a_read_only_database,
            "ERROR",
            "unavailable",
            marks=pytest.mark.postgresql,
        ),
    ],
    ids=["unreadable", "held", "unavailable"],
)
def test_refusal_that_needs_a_person_stands_out_and_leads_to_the_record(
    happens: Callable[[], Any], level: str, action: str, log: pytest.LogCaptureFixture
) -> None:
    happens()
    line: Any = ours(log)[-1]
    record_ids = [str(each.pk) for each in IdempotencyRecord.objects.all()]

    assert (line.levelname, line.action) == (level, action)
    assert KEY not in logging.Formatter().format(line)
    assert not record_ids or line.record_id == record_ids[0]


def test_nothing_is_shown_by_default(caplog: pytest.LogCaptureFixture) -> None:
    """A busy site's log is not ours to fill."""
    assert not logging.getLogger("django_idempotency").isEnabledFor(logging.INFO)


@pytest.fixture
def _logging_is_put_back() -> Iterator[None]:
    logger = logging.getLogger("django_idempotency")
    before = logger.level, list(logger.handlers), logger.propagate
    yield
    logger.level, logger.handlers, logger.propagate = before
    logging.Logger.manager._clear_cache()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("_logging_is_put_back")
def test_configuration_of_the_page_tells_who_sends_no_key(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (Path(__file__).parents[3] / "docs/howto/roll-out.md").read_text()
    block = page[page.index("   LOGGING = {") : page.index("   To count by client")]
    namespace: dict[str, Any] = {}
    exec(dedent(block.partition("```")[0]), namespace)  # noqa: S102 - our own page
    logging.config.dictConfig(namespace["LOGGING"])
    post("/optional/", None)
    post("/optional/", None, method="PUT")
    post()

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "idempotency unkeyed: POST /optional/"
    assert lines[1].startswith("idempotency claimed: POST /order/ (")


def test_every_signal_is_sent_in_some_situation() -> None:
    assert {
        action for _, expected in SITUATIONS.values() for action in expected
    } == set(SIGNALS.values())


def seen_by_somebody_else() -> tuple[int, list[str]]:
    """What another connection sees at this moment: orders and states of records."""
    with crew() as threads:
        return start(threads, lambda: (orders(), states())).result(TIMEOUT)


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


def careless(**arguments: Any) -> None:
    Order.objects.create(amount=-1)
    raise ValueError(SECRET)


def answers_of_all_situations() -> list[tuple[int, str | None]]:
    requests = [
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
    ]
    answers = [post(*request) for request in requests]
    return [(each.status_code, each.headers.get("Content-Type")) for each in answers]


def test_receivers_that_raise_do_no_harm() -> None:
    """Nor do they run the view again."""
    without = answers_of_all_situations()
    IdempotencyRecord.objects.all().delete()
    ordered = orders()
    with connected(careless, *signals.__all__):
        assert answers_of_all_situations() == without

    assert Order.objects.filter(amount=0).count() == 2 * ordered


def test_receiver_that_raises_is_logged_by_django_and_does_not_silence_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[str] = []

    def hear(**arguments: Any) -> None:
        heard.append("kept")

    with connected(careless, "kept"), connected(hear, "kept"):
        post()

    assert [each.name for each in caplog.records] == ["django.dispatch"]
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
