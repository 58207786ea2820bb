"""What hardly ever happens, and must be right when it does."""

import uuid
from contextlib import nullcontext
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import (
    Error,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connection,
    transaction,
)
from django.http import HttpRequest, HttpResponse
from django.http.request import RawPostDataException
from django.test import RequestFactory
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache

from django_idempotency.core.decisions import InFlight
from django_idempotency.decorators import idempotent
from django_idempotency.engine import atomic as engine
from django_idempotency.engine.steps import Steps
from django_idempotency.engine.work import Outcome, Ran
from django_idempotency.exceptions import ClaimConflict, StoreUnavailable
from django_idempotency.http.bodies import canonical_payload
from django_idempotency.models import IdempotencyRecord
from django_idempotency.store import dialects, rows
from django_idempotency.store import records as store
from django_idempotency.store.dialects.base import Dialect, Trouble
from django_idempotency.store.dialects.galera import Galera
from django_idempotency.store.dialects.mariadb import MariaDB
from django_idempotency.store.dialects.postgresql import PostgreSQL
from django_idempotency.store.dialects.sqlite import SQLite
from django_idempotency.store.purging import Purge
from tests.factories import IdempotencyRecordFactory
from tests.support.cases import cases
from tests.support.databases import read_only
from tests.support.values import ANSWER, OPERATION
from tests.testapp.models import Order

database = pytest.mark.django_db(transaction=True)


def post(
    path: str = "/", key: str | None = "8c4be2a5-2f0c-4a44-9a3c-6f1d1c8c9f0e"
) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return RequestFactory().post(path, {}, "application/json", headers=headers)


class DriverError(Exception):
    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


def caused_by(error: Error, sqlstate: str) -> Error:
    error.__cause__ = DriverError(sqlstate)
    return error


POSTGRESQL, SQLITE, MARIADB = PostgreSQL(), SQLite(), MariaDB()
TROUBLES: list[tuple[Dialect, Error, Trouble | None]] = [
    (POSTGRESQL, caused_by(OperationalError(), "53300"), Trouble.UNAVAILABLE),
    (POSTGRESQL, caused_by(OperationalError(), "08006"), Trouble.DISCONNECTED),
    (POSTGRESQL, caused_by(IntegrityError(), "23505"), Trouble.TAKEN),
    (POSTGRESQL, caused_by(IntegrityError(), "23502"), None),
    (POSTGRESQL, IntegrityError(), None),
    (SQLITE, OperationalError("no code"), None),
    (MARIADB, OperationalError(1213, "Deadlock found"), Trouble.CONFLICT),
    (MARIADB, OperationalError(1020, "Record has changed"), Trouble.CONFLICT),
    (MARIADB, OperationalError(1205, "Lock wait timeout"), Trouble.TIMED_OUT),
    (MARIADB, OperationalError(1969, "max_statement_time"), Trouble.TIMED_OUT),
    (MARIADB, IntegrityError(1062, "Duplicate entry"), Trouble.TAKEN),
    (MARIADB, OperationalError(2006, "Server gone away"), Trouble.DISCONNECTED),
    (MARIADB, OperationalError(1053, "Server shutdown"), Trouble.DISCONNECTED),
    (MARIADB, InterfaceError(0, ""), Trouble.DISCONNECTED),
    (MARIADB, OperationalError(1290, "--read-only"), Trouble.UNAVAILABLE),
    (MARIADB, OperationalError(1040, "Too many connections"), Trouble.UNAVAILABLE),
    (MARIADB, IntegrityError(4025, "CONSTRAINT failed"), None),
    (MARIADB, OperationalError(1366, "Incorrect string value"), None),
    (MARIADB, OperationalError(1267, "Illegal mix of collations"), None),
    (MARIADB, OperationalError(1665, "BINLOG_FORMAT = STATEMENT"), None),
    (MARIADB, OperationalError(1114, "The table is full"), Trouble.UNAVAILABLE),
    (MARIADB, OperationalError(), None),
]


def name_of(row: tuple[Dialect, Error, Trouble | None]) -> str:
    dialect, error, _ = row
    told = error.__cause__ or error
    return f"{type(dialect).__name__}-{type(error).__name__}-{told}"


@pytest.mark.parametrize(
    ("dialect", "error", "trouble"), TROUBLES, ids=map(name_of, TROUBLES)
)
def test_trouble_is_told_by_the_errors_code_or_text(
    dialect: Dialect, error: Error, trouble: Trouble | None
) -> None:
    assert dialect.trouble(error) is trouble


PROVIDER = "/usr/lib/galera/libgalera_smm.so"


@cases(
    "told, is_node",
    {
        "node": ({"wsrep_on": "ON", "wsrep_provider": PROVIDER}, True),
        "built without": ({}, False),
        "off": ({"wsrep_on": "OFF", "wsrep_provider": PROVIDER}, False),
        "on, and nothing loaded": ({"wsrep_on": "ON", "wsrep_provider": "none"}, False),
    },
)
def test_server_is_asked_once_whether_it_is_a_node(
    told: dict[str, str], is_node: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim on another server would be refused what it says to a node."""
    monkeypatch.setattr(dialects, "_are_nodes", {})
    asked: list[str] = []
    cursor = SimpleNamespace(execute=asked.append, fetchall=lambda: list(told.items()))
    server: Any = SimpleNamespace(
        alias="elsewhere",
        vendor="mysql",
        mysql_is_mariadb=True,
        mysql_version=(10, 11, 19),
        temporary_connection=lambda: nullcontext(cursor),
    )

    found = [dialects.dialect_of(server) for _ in range(2)]

    assert [isinstance(each, Galera) for each in found] == [is_node] * 2
    assert all(isinstance(each, MariaDB) for each in found)
    assert len(asked) == 1
    dialects.trouble_of(server, OperationalError(2006, "Server has gone away"))
    dialects.dialect_of(server)
    assert len(asked) == 2


@database
def test_fault_during_a_claim_is_not_hidden() -> None:
    with pytest.raises(ProgrammingError), rows.claim_errors("default"):
        raise ProgrammingError("syntax error")


@database
@pytest.mark.postgresql
def test_index_of_the_projects_own_that_a_claim_breaks_is_no_repeat() -> None:
    table = IdempotencyRecord._meta.db_table
    view: Any = idempotent(lambda request: HttpResponse("done"))
    view(post())
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE UNIQUE INDEX of_the_project ON {table} (path)")
    try:
        with pytest.raises(IntegrityError, match="of_the_project"):
            view(post(key=str(uuid.uuid4())))
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP INDEX of_the_project")


@database
def test_row_that_is_gone_is_not_renewed() -> None:
    with pytest.raises(ClaimConflict):
        store.renew(OPERATION, "(0,1)")


@database
def test_unavailable_of_the_work_is_its_own_affair() -> None:
    """The work has run: it must not be taken for a claim that could not be tried."""
    runs = []

    def work(steps: Steps) -> Outcome[None]:
        runs.append(1)
        raise StoreUnavailable(is_disconnect=True)

    with pytest.raises(StoreUnavailable):
        engine.run(OPERATION, work, failure_of=lambda error: None)

    assert runs == [1]


@database
def test_claim_that_never_succeeds_ends_with_the_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each time the row is gone before it can be read."""

    def conflict(*args: Any, **kwargs: Any) -> None:
        raise ClaimConflict

    monkeypatch.setattr(store, "claim", conflict)
    result = engine.run(
        OPERATION,
        lambda steps: Outcome(value=None, commits=False),
        failure_of=lambda error: None,
    )

    assert result == InFlight()


@database
def test_answer_of_a_failure_that_cannot_be_kept_is_given_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(store, "keep", fail)
    result = engine.run(
        OPERATION,
        lambda steps: Outcome(value="no", commits=False, answer=ANSWER),
        failure_of=lambda error: None,
    )

    assert (result, IdempotencyRecord.objects.count()) == (Ran("no"), 0)


def purge_of_one_record() -> Purge:
    IdempotencyRecordFactory.create(expires_at=timezone.now() - timedelta(hours=1))
    return Purge.of_records(using="default", for_at_least=timedelta(0))


@database
@pytest.mark.postgresql
def test_purge_that_is_refused_says_so() -> None:
    purge = purge_of_one_record()
    with read_only(), pytest.raises(Error):
        list(purge.batches(10))


@database
@pytest.mark.postgresql
def test_purge_inside_a_transaction_does_not_try_again() -> None:
    purge = purge_of_one_record()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
        with pytest.raises(Error):
            list(purge.batches(10))


def test_body_that_was_consumed_cannot_be_compared() -> None:
    request = post()
    request.read()

    with pytest.raises(RawPostDataException):
        canonical_payload(request, ())


def test_parsed_body_that_cannot_be_described_cannot_be_compared() -> None:
    request = post()
    request.read()

    with pytest.raises(RawPostDataException, match="fingerprint function"):
        canonical_payload(request, (), SimpleNamespace(data={"a": object()}))


def test_view_needs_a_request() -> None:
    @idempotent
    def view(request: object) -> HttpResponse:
        return HttpResponse()

    with pytest.raises(TypeError, match="with a request"):
        view("no request")


@database
def test_function_named_dispatch_is_an_ordinary_view() -> None:
    @idempotent
    @never_cache
    def dispatch(request: HttpRequest) -> HttpResponse:
        Order.objects.create()
        return HttpResponse()

    answers = [dispatch(post()) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert Order.objects.count() == 1


@database
def test_decorated_dispatch_without_a_handler_refuses_the_method() -> None:
    @method_decorator(idempotent, name="dispatch")
    class OnlyGet(View):
        def get(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse()

    assert OnlyGet.as_view()(post()).status_code == 405
    assert IdempotencyRecord.objects.count() == 0
