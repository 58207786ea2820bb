"""MariaDB: what its columns, its packets and its logs can hold."""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DataError, OperationalError, connection, connections
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from pytest_django import DjangoDbBlocker

from django_idempotency.checks.databases import check_live_databases
from django_idempotency.core.keys import uuid8
from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from tests.support.client import call, new_key
from tests.support.databases import Routes, alias, packets_of
from tests.support.deliveries import deliver, stripe
from tests.support.ordering import ONCE
from tests.testapp.models import Order

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(transaction=True)]
in_both_databases = pytest.mark.django_db(
    transaction=True, databases=["default", "narrow"]
)

TABLES = [IdempotencyRecord._meta.db_table, ProcessedEvent._meta.db_table]
ANY_TEXT = "Ａé😀 "
"""Outside of latin1, and of the three bytes of utf8mb3."""


def run(sql: str, using: str = "narrow") -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(sql)


# Text


@pytest.fixture(scope="module", params=["latin1", "utf8mb3"])
def _narrow(
    request: pytest.FixtureRequest,
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[None]:
    """A database whose tables are made with another character set."""
    name = f"{connection.settings_dict['NAME']}_narrow"
    with django_db_blocker.unblock(), alias("narrow", NAME=name):
        run(
            f"CREATE OR REPLACE DATABASE {name} CHARACTER SET {request.param}",
            "default",
        )
        call_command("migrate", "django_idempotency", database="narrow", verbosity=0)
        yield
        run(f"DROP DATABASE {name}", "default")


@pytest.fixture
def narrow(_narrow: None) -> Iterator[None]:
    with Routes.sending(
        read="narrow", write="narrow", apps=frozenset({"django_idempotency"})
    ):
        yield


@pytest.fixture(params=["strict", "lenient"])
def mode(request: pytest.FixtureRequest, narrow: None) -> None:
    run(f"SET sql_mode = '{'STRICT_ALL_TABLES' if request.param == 'strict' else ''}'")


@idempotent
def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=201)


def send(key: str) -> Any:
    request = RequestFactory(headers={"Idempotency-Key": key})
    return view(request.post(f"/{ANY_TEXT}/"))


@pytest.mark.usefixtures("_narrow", "mode")
@in_both_databases
def test_honest_repeat_is_replayed_whatever_is_in_its_path() -> None:
    key = new_key()
    answers = [send(key) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[1]["Idempotency-Replayed"] == "true"
    assert ANY_TEXT in IdempotencyRecord.objects.get().scope


@pytest.mark.usefixtures("_narrow", "mode")
@in_both_databases
@pytest.mark.urls("tests.integration.webhooks.receivers")
def test_event_is_stored_and_compared_exactly() -> None:
    """Its labels, and two ids that a collation for people takes for one."""
    for event_id in (f"evt_{ANY_TEXT}", f"EVT_{ANY_TEXT}", f"evt_{ANY_TEXT.strip()}"):
        sent = stripe(event_id, type=ANY_TEXT)
        assert deliver("/inbox/", sent).status_code == 200
        found = ProcessedEvent.objects.filter(event_id=event_id, event_type=ANY_TEXT)
        assert found.count() == 1

    assert ProcessedEvent.objects.count() == 3


@pytest.mark.usefixtures("narrow")
@in_both_databases
@pytest.mark.parametrize("table", TABLES)
def test_column_that_cannot_hold_any_text_is_an_error_with_the_statement(
    table: str,
) -> None:
    """And a claim there is a fault, and not a database that is unavailable."""

    def found() -> list[Any]:
        messages = check_live_databases(None, databases=["narrow"])
        return [each for each in messages if "E019" in str(each.id)]

    before = found()
    run(f"ALTER TABLE {table} CONVERT TO CHARACTER SET latin1")
    run("SET sql_mode = 'STRICT_ALL_TABLES'")
    (message,) = found()
    if table == TABLES[0]:
        with pytest.raises(OperationalError):
            send(new_key())
    run(str(message.hint).strip())

    assert (before, found()) == ([], [])


# Ids


def test_its_own_type_takes_every_id_and_derived_key() -> None:
    """Whoever stores one in a `UUIDField`: 80 in the ninth byte would be refused."""
    ids = [uuid8(b"\x3b" * 8 + bytes([ninth]) * 8) for ninth in range(256)]
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE of_the_project (id UUID)")
        cursor.executemany(
            "INSERT INTO of_the_project VALUES (%s)", [[str(each)] for each in ids]
        )
        cursor.execute("SELECT CAST(id AS CHAR) FROM of_the_project")
        stored = {uuid.UUID(text) for (text,) in cursor.fetchall()}
        cursor.execute("DROP TEMPORARY TABLE of_the_project")

    assert stored == set(ids)


# Packets


MEBIBYTE = 1024 * 1024


def long_answer(request: HttpRequest) -> HttpResponse:
    Order.objects.create()
    return HttpResponse(bodies[-1], status=201)


bodies: list[bytes] = []
long_views: list[Any] = [
    idempotent(max_body=10 * MEBIBYTE)(long_answer),
    idempotent(max_body=10 * MEBIBYTE, lease=timedelta(minutes=1))(long_answer),
]


@pytest.mark.parametrize("view", long_views, ids=["atomic", "leased"])
@pytest.mark.parametrize(
    ("body", "is_kept"),
    [
        (b"x" * 900_000, True),
        (b"\0" * 450_000, True),
        (b"\0" * 600_000, False),
        (b"x" * 1_030_000, False),
        (b"x" * 5_000_000, False),
    ],
    ids=["fits", "fits-escaped", "escaped", "nearly", "far"],
)
def test_body_that_cannot_be_stored_is_answered_whole_and_kept_without(
    view: Any, body: bytes, is_kept: bool
) -> None:
    """Else the statement would end the connection: 500 on each retry, for ever."""
    bodies.append(body)
    key = new_key()
    with packets_of(MEBIBYTE):
        answers = [call(view, key) for _ in range(2)]

    assert [answer.word for answer in answers] == ONCE
    assert answers[0].body == body
    assert answers[1].body == (body if is_kept else b"")
    assert answers[1].headers.get("Idempotency-Replay") == (
        None if is_kept else "omitted"
    )
    assert Order.objects.count() == 1


@pytest.mark.parametrize(
    ("results", "made_again"),
    [
        (["x" * 400_000] * 4, [2, 3]),
        (["\\" * 200_000, "x" * 400_000], [1]),
        (["x" * 300_000] * 3, []),
    ],
    ids=["together", "escaped", "fit"],
)
def test_results_that_cannot_be_stored_together_are_good_for_this_try(
    results: list[str], made_again: list[int]
) -> None:
    """Else the call would be made with each retry, or held, though it has returned."""
    made: list[int] = []

    @idempotent(lease=timedelta(minutes=1))
    def in_steps(request: Any) -> HttpResponse:
        for number, result in enumerate(results):

            def step(key: str, at: int = number, result: str = result) -> str:
                made.append(at)
                return result

            assert request.idempotency.call(f"step {number}", step) == result
        if len(made) == len(results):
            return HttpResponse(status=503)  # released: the retry goes on from here
        request.idempotency.write("order", lambda: Order.objects.create().pk)
        return HttpResponse(status=201)

    key = new_key()
    with packets_of(MEBIBYTE):
        answers = [call(in_steps, key).word for _ in range(3)]

    assert made == [*range(len(results)), *made_again]
    expected = ["503", "201", "201 replayed"] if made_again else ["503"] * 3
    assert (answers, Order.objects.count()) == (expected, int(bool(made_again)))


def test_result_of_a_write_that_cannot_be_stored_is_refused_by_a_sentence() -> None:
    def write() -> str:
        Order.objects.create()
        return "x" * MEBIBYTE

    @idempotent(lease=timedelta(minutes=1))
    def view(request: Any) -> HttpResponse:
        request.idempotency.write("order", write)
        return HttpResponse(status=201)

    with packets_of(MEBIBYTE), pytest.raises(DataError, match="max_allowed_packet"):
        call(view, new_key())

    assert Order.objects.count() == 0


@pytest.mark.urls("tests.integration.webhooks.receivers")
def test_payload_that_cannot_be_stored_is_refused_by_a_sentence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    long = stripe(data={"object": {"id": "in_1", "text": "x" * 1_000_000}})
    with packets_of(MEBIBYTE):
        status = deliver("/inbox/", long).status_code

    assert (status, "max_allowed_packet" in caplog.text) == (500, True)
    assert ProcessedEvent.objects.count() == 0
