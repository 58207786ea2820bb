"""R10 with both of InnoDB's variables that say how much an error rolls back."""

from collections.abc import Callable, Iterator

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from pytest_django import DjangoDbBlocker

from tests.integration.transactions import test_lost_transactions as lost
from tests.support import embedded_mariadb, innodb

SHAPES, db, _fresh_work = lost.SHAPES, lost.db, lost._fresh_work

pytestmark = [
    pytest.mark.mariadb,
    pytest.mark.urls(lost.__name__),
    pytest.mark.usefixtures("variables", "db"),
]

ERRORS: dict[str, Callable[..., None]] = {
    "1205": innodb.time_out,
    "1020": innodb.be_outrun,
    "1213": innodb.be_the_victim,
}
HOW: list[tuple[innodb.Write, str]] = [
    (innodb.by_statement, "returns"),
    (innodb.by_procedure, "returns"),
    (innodb.by_procedure, "raises"),
    (innodb.by_procedure, "is killed"),
]


@pytest.fixture(scope="module", params=["OFF", "ON"])
def rolls_back_on_timeout(
    request: pytest.FixtureRequest,
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[bool]:
    """A server that was started with this `innodb_rollback_on_timeout`."""
    options = {"innodb-rollback-on-timeout": request.param}
    with (
        embedded_mariadb.server(options) as server,
        django_db_blocker.unblock(),
        pytest.MonkeyPatch.context() as patched,
    ):
        server.create_database()
        connection.close()
        patched.setitem(connection.settings_dict, "PORT", server.port)
        patched.setitem(connection.settings_dict, "NAME", "idempotency")
        call_command("migrate", run_syncdb=True, verbosity=0)
        yield request.param == "ON"
        connection.close()


@pytest.fixture(params=["OFF", "ON"])
def variables(
    request: pytest.FixtureRequest,
    rolls_back_on_timeout: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[dict[str, bool]]:
    """And each session with this `innodb_snapshot_isolation`, where it counts."""
    options = {
        "isolation_level": "repeatable read",
        "init_command": f"SET innodb_snapshot_isolation = {request.param}",
    }
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    yield {"timeout": rolls_back_on_timeout, "snapshot": request.param == "ON"}
    connection.close()


@pytest.mark.parametrize(
    ("write", "ends"), HOW, ids=[f"{write.__name__}, {ends}" for write, ends in HOW]
)
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("shape", SHAPES)
def test_who_has_lost_the_transaction_is_never_told_success(
    shape: str, error: str, write: innodb.Write, ends: str
) -> None:
    def lose() -> None:
        ERRORS[error](connection, write)

    lost.require_that_no_loss_is_told_as_success(shape, lose, ends)


@pytest.mark.parametrize("error", ERRORS)
def test_error_rolls_back_as_much_as_the_variables_say(
    error: str, variables: dict[str, bool]
) -> None:
    """Or the property above would show nothing."""
    is_lost = {
        "1205": variables["timeout"],
        "1020": variables["snapshot"],
        "1213": True,
    }
    connection.set_autocommit(False)
    try:
        innodb.by_statement(connection, "SAVEPOINT before_the_error")
        ERRORS[error](connection, innodb.by_procedure)
        assert is_gone("before_the_error") is is_lost[error]
    finally:
        connection.rollback()
        connection.set_autocommit(True)


def is_gone(savepoint: str) -> bool:
    try:
        innodb.by_statement(connection, f"RELEASE SAVEPOINT {savepoint}")
    except OperationalError as error:
        return bool(error.args[0] == 1305)
    return False
