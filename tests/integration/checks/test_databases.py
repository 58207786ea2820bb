from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connection, connections, models
from django.test import override_settings

from django_idempotency.checks.databases import check_databases, check_live_databases

from .messages import ids, only

pytestmark = pytest.mark.django_db

POSTGRESQL: dict[str, Any] = {"ENGINE": "django.db.backends.postgresql", "USER": "shop"}
SQLITE: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3"}


class RecordsInOther:
    """A database router."""

    def db_for_write(self, model: type[models.Model], **hints: Any) -> str | None:
        is_record = model._meta.app_label == "django_idempotency"
        return "other" if is_record else None


class EverythingInOther:
    def db_for_write(self, model: type[models.Model], **hints: Any) -> str:
        return "other"


class RecordsInOtherOnReading(RecordsInOther):
    """A replica for reads: what is written goes to the default database."""

    def db_for_read(self, model: type[models.Model], **hints: Any) -> str:
        return "other"

    def db_for_write(self, model: type[models.Model], **hints: Any) -> None:
        return None


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The settings of a second database, which nothing connects to."""
    settings = dict(connections.settings["default"])
    monkeypatch.setitem(connections.settings, "other", settings)
    yield settings
    assert connections["other"].connection is None
    del connections["other"]


def routed_by(router: type) -> Any:
    return override_settings(DATABASE_ROUTERS=[f"{__name__}.{router.__name__}"])


def with_records_in(settings: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What is said of a database with these settings that holds everything."""
    other.update(settings)
    with routed_by(EverythingInOther):
        return ids(check_databases(None))


@pytest.mark.postgresql
def test_one_database_has_nothing_to_be_said() -> None:
    assert check_databases(None) == []


@pytest.mark.postgresql
@pytest.mark.usefixtures("other")
def test_records_in_another_database_than_the_models_are_warned_about() -> None:
    """FR-084."""
    with routed_by(RecordsInOther):
        message = only(check_databases(None))

    assert (ids([message]), "    return 'default'" in str(message.hint)) == (
        ["W010"],
        True,
    )


@pytest.mark.postgresql
@pytest.mark.usefixtures("other")
def test_records_beside_the_models_in_another_database_are_right() -> None:
    """FR-084: a project whose default database is not the one it uses."""
    with routed_by(EverythingInOther):
        assert check_databases(None) == []


@pytest.mark.postgresql
@pytest.mark.usefixtures("other")
def test_replica_for_reading_is_right() -> None:
    """FR-083: what counts is where records are written."""
    with routed_by(RecordsInOtherOnReading):
        assert check_databases(None) == []


def test_unsupported_database_is_refused(other: dict[str, Any]) -> None:
    assert with_records_in({"ENGINE": "django.db.backends.dummy"}, other) == ["E011"]


@pytest.mark.parametrize("mode", [None, "DEFERRED"])
def test_sqlite_that_locks_late_is_warned_about(
    mode: str | None, other: dict[str, Any]
) -> None:
    options = {} if mode is None else {"transaction_mode": mode}

    assert with_records_in({**SQLITE, "OPTIONS": options}, other) == ["W012"]


@pytest.mark.parametrize("mode", ["IMMEDIATE", "immediate", "EXCLUSIVE"])
def test_sqlite_that_locks_first_is_right(mode: str, other: dict[str, Any]) -> None:
    options = {"transaction_mode": mode}

    assert with_records_in({**SQLITE, "OPTIONS": options}, other) == []


@pytest.mark.parametrize(
    "options",
    [{"prepare_threshold": 5}, {"options": "-c statement_timeout=5s"}],
    ids=["prepare_threshold", "options"],
)
def test_options_that_a_pooler_passes_on_are_warned_about(
    options: dict[str, Any], other: dict[str, Any]
) -> None:
    settings = {**POSTGRESQL, "DISABLE_SERVER_SIDE_CURSORS": True, "OPTIONS": options}

    assert with_records_in(settings, other) == ["W013"]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"OPTIONS": {"prepare_threshold": 5}}, id="without-a-pooler"),
        pytest.param({"DISABLE_SERVER_SIDE_CURSORS": True}, id="nothing-set"),
        pytest.param(
            {
                "DISABLE_SERVER_SIDE_CURSORS": True,
                "OPTIONS": {"prepare_threshold": None, "sslmode": "require"},
            },
            id="as-documented",
        ),
    ],
)
def test_pooler_with_harmless_options_is_right(
    settings: dict[str, Any], other: dict[str, Any]
) -> None:
    assert with_records_in({**POSTGRESQL, "OPTIONS": {}, **settings}, other) == []


# What the database itself has to say


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def live() -> Any:
    return check_live_databases(None, databases=["default"])


@pytest.fixture
def patient_server() -> None:
    """The server's defaults; the time-outs of the machine's own may differ."""
    execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    execute("SET LOCAL tcp_user_timeout = 0")


@pytest.fixture
def impatient_server() -> None:
    execute("SET LOCAL idle_in_transaction_session_timeout = '60s'")


@pytest.mark.parametrize("databases", [None, [], ["other"]])
def test_database_that_is_not_named_is_not_asked(
    databases: list[str] | None, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0):
        assert check_live_databases(None, databases=databases) == []


def test_checks_of_a_plain_run_ask_no_database(django_assert_num_queries: Any) -> None:
    """Django 6.1 hands every alias to checks that run without a named database."""
    connection.features.supports_json_field  # noqa: B018 - Django asks SQLite, once
    with django_assert_num_queries(0):
        found = ids(run_checks())

    assert not {"W014", "W015", "W016"} & set(found)


@pytest.mark.postgresql
@pytest.mark.usefixtures("patient_server")
def test_checks_of_a_named_database_ask_it() -> None:
    assert "W015" in ids(run_checks(databases=["default"]))


def test_missing_table_is_warned_about_with_the_command() -> None:
    execute("ALTER TABLE django_idempotency_idempotencyrecord RENAME TO elsewhere")
    message = only(live())
    execute("ALTER TABLE elsewhere RENAME TO django_idempotency_idempotencyrecord")

    assert (ids([message]), message.hint) == (
        ["W014"],
        "python manage.py migrate django_idempotency --database default",
    )


@pytest.mark.postgresql
@pytest.mark.usefixtures("patient_server")
def test_server_that_waits_for_ever_is_warned_about() -> None:
    message = only(live())

    assert (
        ids([message]),
        "    ALTER ROLE postgres SET tcp_user_timeout = '30s';" in str(message.hint),
    ) == (["W015"], True)


@pytest.mark.postgresql
@pytest.mark.usefixtures("patient_server")
@pytest.mark.parametrize(
    "setting", ["idle_in_transaction_session_timeout", "tcp_user_timeout"]
)
def test_server_with_one_of_the_time_outs_is_right(setting: str) -> None:
    execute(f"SET LOCAL {setting} = '60s'")

    assert live() == []


@pytest.mark.postgresql
@pytest.mark.usefixtures("impatient_server")
def test_role_that_may_not_delete_is_warned_about_with_the_grant() -> None:
    role = f"no-delete-{uuid.uuid4()}"  # wants quotes
    execute(f'CREATE ROLE "{role}"')
    execute(f'SET LOCAL ROLE "{role}"')
    message = only(live())

    assert (ids([message]), message.hint) == (
        ["W016"],
        "GRANT DELETE ON django_idempotency_idempotencyrecord,"
        f' django_idempotency_processedevent TO "{role}";',
    )


@pytest.mark.postgresql
@pytest.mark.usefixtures("impatient_server")
def test_granting_what_the_hint_says_ends_the_warning() -> None:
    role = f"no-delete-{uuid.uuid4()}"
    execute(f'CREATE ROLE "{role}"')
    execute(f'SET LOCAL ROLE "{role}"')
    grant = str(only(live()).hint)
    execute("RESET ROLE")
    execute(grant)
    execute(f'SET LOCAL ROLE "{role}"')

    assert live() == []


@pytest.mark.postgresql
@pytest.mark.usefixtures("impatient_server")
def test_read_only_database_is_warned_about_without_a_grant() -> None:
    execute("SET LOCAL transaction_read_only = on")
    message = only(live())

    assert (ids([message]), "GRANT" in str(message.hint)) == (["W016"], False)
