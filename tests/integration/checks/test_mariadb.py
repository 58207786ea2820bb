"""What only a server of MariaDB or MySQL can tell."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.db import NotSupportedError, connection, connections
from django.urls import path

from django_idempotency.checks.databases import check_databases
from django_idempotency.store.dialects import dialect_of
from django_idempotency.webhooks import providers, webhook
from tests.support.databases import packets_of
from tests.support.deliveries import SECRET

from .messages import execute, ids, live, only

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(transaction=True)]

MEBIBYTE = 1024 * 1024
long_payloads: Any = webhook(
    replace(providers.STRIPE, max_body=2 * MEBIBYTE),
    secrets=SECRET,
    endpoint="tested-long-payloads",
)
urlpatterns = [path("", long_payloads(print))]
TABLE = "django_idempotency_idempotencyrecord"


@pytest.fixture
def impatient_server() -> Iterator[None]:
    """One that ends a transaction in which nothing happens any more."""
    execute("SET SESSION idle_transaction_timeout = 60")
    yield
    execute("SET SESSION idle_transaction_timeout = DEFAULT")


@pytest.fixture(params=["8.4.6", "10.6.22-MariaDB"])
def unsupported_server(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another server would answer to the question for its version."""
    asked: Any = connections["default"]
    answers = {**asked.mysql_server_data, "version": request.param}
    monkeypatch.setitem(vars(asked), "mysql_server_data", answers)
    for derived in ("mysql_server_info", "mysql_version", "mysql_is_mariadb"):
        monkeypatch.delitem(vars(asked), derived, raising=False)


@pytest.mark.usefixtures("impatient_server")
def test_mariadb_is_right() -> None:
    assert live() == []


@pytest.mark.usefixtures("unsupported_server")
def test_server_that_is_not_supported_is_refused_with_the_line_to_paste() -> None:
    """FR-080."""
    message = only(live())

    assert ids([message]) == ["E011"]
    assert '"ENGINE": "django.db.backends.postgresql",' in str(message.hint)


@pytest.mark.usefixtures("unsupported_server")
def test_claim_on_a_server_that_is_not_supported_is_refused() -> None:
    """FR-080."""
    with pytest.raises(NotSupportedError, match=r"MariaDB 10\.11 or later"):
        dialect_of(connection)


def test_checks_without_a_connection_leave_the_question_open(
    django_assert_num_queries: Any,
) -> None:
    with django_assert_num_queries(0):
        assert check_databases(None) == []


@pytest.mark.usefixtures("impatient_server")
def test_table_that_cannot_roll_back_is_refused_with_the_statement() -> None:
    execute(f"ALTER TABLE {TABLE} ENGINE = Aria")
    try:
        message = only(live())
    finally:
        execute(f"ALTER TABLE {TABLE} ENGINE = InnoDB")

    assert (ids([message]), message.hint) == (
        ["E017"],
        f"ALTER TABLE {TABLE} ENGINE = InnoDB;",
    )


@pytest.mark.usefixtures("impatient_server")
@pytest.mark.parametrize("engine", ["MyISAM", "Aria"])
def test_projects_tables_that_cannot_roll_back_are_listed_with_the_statements(
    engine: str,
) -> None:
    tables = ["django_session", "testapp_order"]
    for table in tables:
        execute(f"ALTER TABLE {table} ENGINE = {engine}")
    message = only(live())
    for statement in str(message.hint).splitlines():
        execute(statement)

    assert (ids([message]), live()) == (["W040"], [])
    assert all(table in message.msg for table in tables)


@pytest.mark.urls(__name__)
@pytest.mark.parametrize(
    ("max_body", "what"),
    [(2 * MEBIBYTE, "IDEMPOTENCY_MAX_BODY"), (1, "the webhook 'tested-long-payloads'")],
)
def test_packets_that_are_too_small_for_bodies_are_warned_about(
    max_body: int, what: str, settings: Any
) -> None:
    settings.IDEMPOTENCY_MAX_BODY = max_body
    with packets_of(MEBIBYTE):
        execute("SET SESSION idle_transaction_timeout = 60")
        message = only(live())

    assert (ids([message]), what in message.msg) == (["W041"], True)
    assert "SET GLOBAL max_allowed_packet =" in str(message.hint)


@pytest.mark.usefixtures("impatient_server")
def test_log_of_statements_is_warned_about_with_the_statement() -> None:
    execute("SET SESSION binlog_format = 'STATEMENT'")
    message = only(live())
    execute("SET SESSION binlog_format = 'MIXED'")

    assert (ids([message]), live()) == (["W042"], [])
    assert "    SET GLOBAL binlog_format = 'MIXED';" in str(message.hint)


@pytest.mark.usefixtures("impatient_server")
def test_connection_that_carries_less_than_any_text_is_refused_with_the_line() -> None:
    execute("SET NAMES utf8mb3")
    message = only(live())
    execute("SET NAMES utf8mb4")

    assert ids([message]) == ["E019"]
    assert '"OPTIONS": {"charset": "utf8mb4"},' in str(message.hint)


def test_server_that_waits_for_ever_is_warned_about() -> None:
    message = only(live())

    assert ids([message]) == ["W015"]
    assert "    SET GLOBAL idle_transaction_timeout = 60;" in str(message.hint)
