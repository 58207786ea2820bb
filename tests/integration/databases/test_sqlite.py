"""A file of SQLite's, several threads: the write lock is the whole database's."""

import gc
import io
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    closing,
    contextmanager,
)
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections
from django.db.models.functions import Now
from django.http import HttpResponse, JsonResponse
from django.utils import timezone
from pytest_django import DjangoDbBlocker

from django_idempotency.checks.databases import check_databases
from django_idempotency.decorators import idempotent
from django_idempotency.engine import record_row
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.store import rows
from tests.concurrency.webhooks.receivers import HASTE
from tests.support.client import call, new_key, told
from tests.support.databases import Routes, alias
from tests.support.deliveries import deliver, stripe
from tests.support.programs import running
from tests.support.threads import TIMEOUT, all_at_once, crew, start
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db(databases=["file"], transaction=True)


ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "howto" / "deploy-on-sqlite.md").read_text(encoding="utf-8")


def settings_of_the_page() -> dict[str, Any]:
    settings: dict[str, Any] = {"BASE_DIR": ROOT}
    exec(re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)[0], settings)  # noqa: S102 - our own page
    return settings


WAL = {"init_command": "PRAGMA journal_mode = WAL;"}
MODES: dict[str, dict[str, Any]] = {
    "as documented": settings_of_the_page()["DATABASES"]["default"]["OPTIONS"],
    "immediate": {"transaction_mode": "IMMEDIATE"},
    "exclusive": {"transaction_mode": "EXCLUSIVE"},
    "exclusive with WAL": {"transaction_mode": "EXCLUSIVE", **WAL},
    "default": {},
    "default with WAL": WAL,
}


@pytest.fixture(
    autouse=True, scope="module", params=list(MODES.values()), ids=list(MODES)
)
def _file(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[None]:
    """A database under the alias ``file``, to which everything is sent."""
    database = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": tmp_path_factory.mktemp("sqlite") / "test.sqlite3",
        "OPTIONS": request.param,
    }
    with django_db_blocker.unblock(), alias("file", **database):
        call_command("migrate", database="file", run_syncdb=True, verbosity=0)
        with Routes.sending(read="file", write="file"):
            yield


def pragma(name: str) -> Any:
    with connections["file"].cursor() as cursor:
        cursor.execute(f"PRAGMA {name}")
        return cursor.fetchone()[0]


def projects_timeout() -> int:
    """In milliseconds; Python's driver sets 5 seconds."""
    seconds: int = connections["file"].settings_dict["OPTIONS"].get("timeout", 5)
    return 1000 * seconds


@contextmanager
def somebody_using(*statements: str) -> Iterator[None]:
    """Another connection is in a transaction, which any thread may end."""
    name = str(connections["file"].settings_dict["NAME"])
    other = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
    with closing(other):
        for statement in statements:
            other.execute(statement).fetchall()
        yield


def somebody_writing(begin: str = "BEGIN IMMEDIATE") -> AbstractContextManager[None]:
    """Another connection has the write lock."""
    return somebody_using(begin)


def ordered(request: IdempotentRequest) -> HttpResponse:
    Order.objects.create()
    return JsonResponse({"busy_timeout": pragma("busy_timeout")}, status=201)


order: Any = idempotent(ordered)


def unavailable(request: IdempotentRequest) -> HttpResponse:
    return HttpResponse(status=503)


def leave_nothing(key: str) -> None: ...


def leave_an_expired_answer(key: str) -> None:
    call(order, key)
    IdempotencyRecord.objects.update(expires_at=Now() - timedelta(hours=1))
    Order.objects.all().delete()


def leave_a_released_key(key: str) -> None:
    call(idempotent(unavailable), key)


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(leave_nothing, id="FR-079-new"),
        pytest.param(leave_an_expired_answer, id="FR-079-expired"),
        pytest.param(leave_a_released_key, id="released"),
    ],
)
@pytest.mark.parametrize("round_", range(2))
def test_copies_make_one_order(prepare: Callable[[str], None], round_: int) -> None:
    key = new_key()
    prepare(key)
    answers = all_at_once(8, lambda _: call(order, key))

    assert set(told(answers)) <= {"201", "201 replayed"}
    assert Order.objects.count() == 1


def test_different_keys_do_not_fail() -> None:
    answers = all_at_once(8, lambda _: [call(order, new_key()) for _ in range(5)])

    assert told(answer for each in answers for answer in each) == {"201": 40}


def test_request_whose_wait_is_over_is_told_what_is_known() -> None:
    """Of another key nobody can say that its first request is running: all wait for one
    lock. Of a copy in this process the gate knows."""
    entered, leave = threading.Event(), threading.Event()

    @idempotent(wait=timedelta(milliseconds=200))
    def slow(request: IdempotentRequest) -> HttpResponse:
        Order.objects.create()
        entered.set()
        assert leave.wait(TIMEOUT)
        return HttpResponse(status=201)

    key = new_key()
    with crew() as threads:
        first = start(threads, call, slow, key)
        assert entered.wait(TIMEOUT)
        copies = [start(threads, call, slow, each) for each in (key, new_key())]
        answers = [copy.result(TIMEOUT) for copy in copies]
        leave.set()

    assert [answer.word for answer in answers] == [
        "409 in-flight",
        "503 store-unavailable",
    ]
    assert first.result().word == "201"


@idempotent(lease=timedelta(minutes=1), wait=timedelta(milliseconds=300))
def leased(request: IdempotentRequest) -> HttpResponse:
    Order.objects.create()
    return HttpResponse(status=201)


hasty: Any = idempotent(wait=timedelta(milliseconds=300))(ordered)
fairly_patient: Any = idempotent(wait=timedelta(seconds=1))(ordered)
impatient: Any = idempotent(wait=timedelta(0))(ordered)


MANY_EXPIRED = """
    WITH RECURSIVE numbers(n) AS (SELECT 1 UNION SELECT n + 1 FROM numbers WHERE n < 3000)
    INSERT INTO django_idempotency_idempotencyrecord (id, scope, key, method, path,
        fingerprint, state, effects, attempts, last_error, history, replays, created_at,
        expires_at, response_body)
    SELECT lower(hex(randomblob(16))), '', n, 'POST', '/', '', 'released', '{}', 1, '', '[]', 0,
        '2020-01-01', '2020-01-01', zeroblob(2000) FROM numbers
"""
EVENTS = ProcessedEvent._meta.db_table
MILLISECOND = timedelta(milliseconds=1)
HIDDEN, SHOWN = "503 store-unavailable", "201 replayed"


@pytest.mark.parametrize(
    "view", [hasty, impatient, leased], ids=["0.3 s", "none", "leased"]
)
@pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_every_look_at_a_busy_database_is_bounded_by_the_wait(
    view: Any, begin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what can be read is replayed; else it isn't said that a request is running."""
    is_hidden = begin == "BEGIN EXCLUSIVE" and pragma("journal_mode") != "wal"
    keys = {name: new_key() for name in ("new", "elsewhere", "here")}
    call(view, keys["elsewhere"])
    monkeypatch.setattr(record_row, "answered", record_row.RecentIds(10))
    call(view, keys["here"])
    words, took = {}, []
    with somebody_writing(begin):
        for name, key in keys.items():
            began = time.monotonic()
            words[name] = call(view, key).word
            took.append(time.monotonic() - began)

    answer = HIDDEN if is_hidden else SHOWN
    assert words == {"new": HIDDEN, "elsewhere": answer, "here": answer}
    assert max(took) < projects_timeout() / 2000
    assert pragma("busy_timeout") == projects_timeout()


# Django leaves the connection open whose first command fails.
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "view", [hasty, impatient, leased], ids=["0.3 s", "none", "leased"]
)
def test_connection_that_others_keep_from_being_made_is_bounded_by_its_own_timeout(
    view: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first command switches the journal, for which nobody else may be there."""
    other_mode = "DELETE" if pragma("journal_mode") == "wal" else "WAL"
    options = connections["file"].settings_dict["OPTIONS"]
    command = f"PRAGMA journal_mode = {other_mode}"
    for name, value in {"init_command": command, "timeout": 0.2}.items():
        monkeypatch.setitem(options, name, value)
    connections["file"].close()
    with ExitStack() as others:
        others.enter_context(somebody_writing())
        threading.Timer(5, others.close).start()  # rather than to wait for ever
        began = time.monotonic()
        word = call(view, new_key()).word
        took = time.monotonic() - began
    gc.collect()

    assert (word, took < 4) == (HIDDEN, True)


@pytest.mark.urls("tests.concurrency.webhooks.receivers")
@pytest.mark.parametrize(
    "send",
    [
        *(partial(call, view, new_key()) for view in (hasty, leased)),
        # Signed when it is sent: a signature is good for five minutes.
        lambda: deliver("/hasty/", stripe()),
        lambda: deliver("/hasty-inbox/", stripe()),
    ],
    ids=["atomic", "leased", "inline", "inbox"],
)
def test_busy_database_is_one_warning_without_a_traceback(
    send: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody else writes, and the client was told so: nothing is broken."""
    with somebody_writing():
        send()
    (line,) = [each for each in caplog.records if each.name == "django_idempotency"]

    assert (line.levelname, getattr(line, "action", "")) == ("WARNING", "busy")
    assert (line.exc_info, "\n" in line.getMessage()) == (None, False)


BLOCKERS = {
    "writer": ["BEGIN IMMEDIATE"],
    "exclusive": ["BEGIN EXCLUSIVE"],
    "reader": ["BEGIN", f"SELECT * FROM {EVENTS}"],  # noqa: S608
}


@pytest.mark.parametrize("blocker", BLOCKERS.values(), ids=BLOCKERS)
def test_note_waits_for_a_moment(blocker: list[str]) -> None:
    """Of a failure, or of an event that isn't ready: others write all the time."""
    with ExitStack() as others:
        others.enter_context(somebody_using(*blocker))
        threading.Timer(0.2, others.close).start()
        with rows.brief_transaction("file"):
            Order.objects.create()

    assert Order.objects.exists()


def be_in_a_hurry() -> None:
    """The connection's own timeout is shorter than what others do."""
    with connections["file"].cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 20")


@pytest.mark.parametrize("blocker", BLOCKERS.values(), ids=BLOCKERS)
def test_call_is_remembered_however_busy_the_database_is_meanwhile(
    blocker: list[str],
) -> None:
    """Else it would be held, for a person, because somebody wrote at that moment."""
    others, calls = ExitStack(), []

    def charge(key: str) -> None:
        calls.append(key)
        be_in_a_hurry()
        others.enter_context(somebody_using(*blocker))
        threading.Timer(0.5, others.close).start()

    @idempotent(lease=timedelta(minutes=1))
    def view(request: IdempotentRequest) -> HttpResponse:
        request.idempotency.call("charge", charge, if_unknown="hold")
        return HttpResponse(status=201)

    key = new_key()
    with others:
        answers = [call(view, key).word for _ in range(2)]

    assert (answers, len(calls)) == (["201", "201 replayed"], 1)


@pytest.mark.parametrize(
    "_file",
    [MODES["immediate"], MODES["default"]],
    indirect=True,
    ids=["immediate", "default"],
)
def test_write_whose_commit_a_reader_prevents_is_rolled_back_for_certain() -> None:
    """So the view may answer as it likes, and its answer is kept."""
    others = ExitStack()

    def write() -> None:
        Order.objects.create()
        be_in_a_hurry()
        others.enter_context(somebody_using(*BLOCKERS["reader"]))

    @idempotent(lease=timedelta(minutes=1))
    def view(request: IdempotentRequest) -> HttpResponse:
        try:
            with others:
                request.idempotency.write("order", write)
        except OperationalError:
            return HttpResponse(status=422)
        return HttpResponse(status=201)

    key = new_key()
    words = [call(view, key).word for _ in range(2)]

    assert (words, Order.objects.count()) == (["422", "422 replayed"], 0)


def purge(*arguments: str) -> str:
    """The command, on a connection that hardly waits by itself."""
    connections["file"].cursor().execute("PRAGMA busy_timeout = 20")
    out = io.StringIO()
    try:
        call_command("purge_idempotency_keys", *arguments, stdout=out, stderr=out)
    finally:
        connections["file"].close()
    return out.getvalue()


@pytest.mark.parametrize("blocker", BLOCKERS.values(), ids=BLOCKERS)
def test_purge_waits_while_others_use_the_database_and_goes_on(
    blocker: list[str],
) -> None:
    leave_an_expired_answer(new_key())
    with ExitStack() as others:
        others.enter_context(somebody_using(*blocker))
        threading.Timer(0.5, others.close).start()
        assert purge().startswith("Purged 1 idempotency records")

    assert not IdempotencyRecord.objects.exists()


@pytest.mark.parametrize(
    ("option", "begin"),
    [("--patience=1s", "BEGIN IMMEDIATE"), ("--max-seconds=1", "BEGIN EXCLUSIVE")],
    ids=["patience", "max-seconds"],
)
def test_purge_that_was_kept_waiting_for_too_long_fails_with_a_sentence(
    option: str, begin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cron's mail says what to do; and what was deleted before stays deleted."""
    for _ in range(3):
        leave_an_expired_answer(new_key())
    others = ExitStack()

    def write_after_the_first_batch(seconds: float) -> None:
        others.enter_context(somebody_using(begin))

    monkeypatch.setattr(
        "django_idempotency.store.purging.time.sleep", write_after_the_first_batch
    )
    with (
        others,
        pytest.raises(CommandError, match=r"busy for \d+ seconds.* Purged 1 idem"),
    ):
        purge(option, "--batch-size=1")

    assert IdempotencyRecord.objects.count() == 2


@pytest.mark.programs
def test_purge_lets_live_requests_through() -> None:
    """In another process. SQLite's lock is given to nobody in turn: who takes it again
    at once keeps the others out until the end."""
    with connections["file"].cursor() as cursor:
        cursor.execute(MANY_EXPIRED)
    database = connections["file"].settings_dict
    options = {
        "transaction_mode": database["OPTIONS"].get("transaction_mode", "DEFERRED")
    }
    url = f"sqlite:///{database['NAME']}?{urlencode(options)}"
    program = ("-m", "django", "purge_idempotency_keys", "--batch-size", "100")
    words = []
    with running(*program, DATABASE_URL=url) as purge:
        while purge.poll() is None:
            words.append(call(fairly_patient, new_key()).word)
            time.sleep(0.01)

    assert (purge.returncode, set(words)) == (0, {"201"})
    assert not IdempotencyRecord.objects.filter(state="released").exists()


def test_busy_timeout_is_the_projects_in_the_view() -> None:
    assert call(order, new_key()).json == {"busy_timeout": projects_timeout()}


@pytest.mark.parametrize("view", [order, idempotent(unavailable)], ids=["kept", "503"])
def test_busy_timeout_is_put_back_after_first_call_and_repeat(view: Any) -> None:
    key = new_key()
    found = []
    for amount in (1, 1, 2):
        call(view, key, amount=amount)
        found.append(pragma("busy_timeout"))

    assert found == [projects_timeout()] * 3


@pytest.mark.urls("tests.concurrency.webhooks.receivers")
@pytest.mark.parametrize("path", ["/hasty/", "/hasty-inbox/"])
def test_delivery_waits_no_longer_than_half_of_its_providers_patience(
    path: str,
) -> None:
    """However often it tries, while somebody else writes to the database."""
    asked: list[str] = []
    connections["file"].ensure_connection()
    connections["file"].connection.set_trace_callback(asked.append)
    with somebody_writing():
        answer = deliver(path, stripe())
    connections["file"].connection.set_trace_callback(None)

    granted = [int(sql.rpartition(" ")[2]) for sql in asked if "busy_timeout = " in sql]
    waits = [
        timedelta(milliseconds=each) for each in granted if each != projects_timeout()
    ]
    assert answer.status_code == 503
    # The last of a wait is rounded up.
    assert timedelta(0) < sum(waits, timedelta(0)) < 0.6 * HASTE


@pytest.mark.parametrize("_file", [MODES["as documented"]], indirect=True, ids=[""])
def test_settings_of_the_page_are_in_force_and_right() -> None:
    assert pragma("journal_mode") == "wal"
    assert [each for each in check_databases(None) if "W012" in str(each.id)] == []
    # Above the wait, so that nothing gives up earlier than a request with a key.
    assert (
        projects_timeout() >= settings_of_the_page()["IDEMPOTENCY_WAIT"] // MILLISECOND
    )


@pytest.mark.parametrize("_file", [MODES["immediate"]], indirect=True, ids=[""])
@pytest.mark.urls("tests.concurrency.webhooks.receivers")
@pytest.mark.parametrize("zone", [None, "Pacific/Kiritimati"])
@pytest.mark.parametrize("use_tz", [True, False])
def test_moments_are_stored_in_utc_and_come_back(
    use_tz: bool, zone: str | None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the project's clocks show, and those of its connection."""
    own = zone if use_tz else None
    monkeypatch.setitem(connections["file"].settings_dict, "TIME_ZONE", own)
    settings.TIME_ZONE = "America/St_Johns"  # and let Django forget the old zones
    settings.USE_TZ = use_tz
    moment = datetime(2026, 7, 1, 12, 30, tzinfo=UTC)
    assert deliver("/inbox/", stripe(created=moment.timestamp())).status_code == 200
    shown = moment if use_tz else timezone.make_naive(moment)
    ProcessedEvent.objects.update(expires_at=shown)

    (event,) = ProcessedEvent.objects.filter(expires_at=shown)
    assert (event.occurred_at, event.expires_at) == (shown, shown)
    with connections["file"].cursor() as cursor:
        cursor.execute(f"SELECT occurred_at, expires_at FROM {EVENTS}")  # noqa: S608
        assert {str(each)[:16] for each in cursor.fetchone()} == {"2026-07-01 12:30"}


def test_claim_in_a_read_only_database_is_refused() -> None:
    with connections["file"].cursor() as cursor:
        cursor.execute("PRAGMA query_only = ON")
        word = call(order, new_key()).word
        cursor.execute("PRAGMA query_only = OFF")

    assert word == "503 store-unavailable"
