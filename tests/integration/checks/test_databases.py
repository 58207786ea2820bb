import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.db import connection, connections
from django.db.models import Model
from django.test import override_settings

from django_idempotency.checks.databases import check_databases, check_live_databases
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from tests.support.cases import cases
from tests.support.databases import Routes, alias

from .messages import execute, ids, live, only

pytestmark = pytest.mark.django_db

POSTGRESQL: dict[str, Any] = {"ENGINE": "django.db.backends.postgresql", "USER": "shop"}
SQLITE: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3"}
OURS = frozenset({"django_idempotency"})


@pytest.fixture
def other() -> Iterator[dict[str, Any]]:
    """The settings of a second database, which nothing connects to."""
    with alias("other"):
        yield connections.settings["other"]
        assert connections["other"].connection is None


def said_of(settings: dict[str, Any], other: dict[str, Any]) -> list[CheckMessage]:
    """What is said of a database with these settings that holds everything."""
    other.update(settings)
    with Routes.sending(read="other", write="other"):
        return check_databases(None)


@pytest.mark.postgresql
def test_one_database_has_nothing_to_be_said() -> None:
    assert check_databases(None) == []


def test_project_without_models_of_its_own_has_nothing_to_be_said() -> None:
    apps = ["django.contrib.contenttypes", "django.contrib.auth", "django_idempotency"]
    with override_settings(INSTALLED_APPS=apps):
        assert "W010" not in ids(check_databases(None))


@pytest.mark.postgresql
@pytest.mark.usefixtures("other")
def test_records_in_another_database_than_the_models_are_warned_about() -> None:
    """FR-084."""
    with Routes.sending(read="default", write="other", apps=OURS):
        message = only(check_databases(None))

    assert ids([message]) == ["W010"]
    assert "    return 'default'" in str(message.hint)


@pytest.mark.postgresql
@pytest.mark.usefixtures("other")
@pytest.mark.parametrize(
    ("read", "write"),
    [("other", "other"), ("other", "default")],
    ids=["FR-084-beside the models", "FR-083-replica for reading"],
)
def test_records_where_the_models_are_written_are_right(read: str, write: str) -> None:
    with Routes.sending(read=read, write=write):
        assert check_databases(None) == []


BEHIND_A_POOLER = {**POSTGRESQL, "DISABLE_SERVER_SIDE_CURSORS": True}
BEGINS_IMMEDIATE = '"OPTIONS": {"transaction_mode": "IMMEDIATE"},'
WRONG = {
    "unsupported": (
        *({"ENGINE": "django.db.backends.dummy"}, "E011"),
        '"ENGINE": "django.db.backends.postgresql",',
    ),
    "sqlite-as-it-comes": ({**SQLITE, "OPTIONS": {}}, "W012", BEGINS_IMMEDIATE),
    "sqlite-deferred": (
        *({**SQLITE, "OPTIONS": {"transaction_mode": "DEFERRED"}}, "W012"),
        BEGINS_IMMEDIATE,
    ),
    "prepared-statements-behind-a-pooler": (
        *({**BEHIND_A_POOLER, "OPTIONS": {"prepare_threshold": 5}}, "W013"),
        "remove 'prepare_threshold'",
    ),
    "options-behind-a-pooler": (
        *({**BEHIND_A_POOLER, "OPTIONS": {"options": "-c work_mem=1MB"}}, "W013"),
        "remove 'options'",
    ),
}
RIGHT = {
    "sqlite-immediate": {**SQLITE, "OPTIONS": {"transaction_mode": "IMMEDIATE"}},
    "sqlite-in-lower-case": {**SQLITE, "OPTIONS": {"transaction_mode": "immediate"}},
    "sqlite-exclusive": {**SQLITE, "OPTIONS": {"transaction_mode": "EXCLUSIVE"}},
    "without-a-pooler": {**POSTGRESQL, "OPTIONS": {"prepare_threshold": 5}},
    "behind-a-pooler": {**BEHIND_A_POOLER, "OPTIONS": {}},
    "behind-a-pooler-as-documented": {
        **BEHIND_A_POOLER,
        "OPTIONS": {"prepare_threshold": None, "sslmode": "require"},
    },
}


@cases("settings, expected, line", WRONG)
def test_wrong_database_has_an_id_and_a_line_to_paste(
    settings: dict[str, Any], expected: str, line: str, other: dict[str, Any]
) -> None:
    message = only(said_of(settings, other))

    assert (ids([message]), line in str(message.hint)) == ([expected], True)


@cases("settings", RIGHT)
def test_right_database_is_not_complained_about(
    settings: dict[str, Any], other: dict[str, Any]
) -> None:
    assert said_of(settings, other) == []


# What the database itself has to say


IMPATIENT = (
    "SET LOCAL idle_in_transaction_session_timeout = '60s';"
    " SET LOCAL lock_timeout = '5s'"
)


@pytest.fixture
def patient_server() -> None:
    """The server's defaults; the time-outs of the machine's own may differ."""
    execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    execute("SET LOCAL tcp_user_timeout = 0")
    execute("SET LOCAL lock_timeout = '5s'")


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

    assert not {"W014", "W015", "W016", "W018"} & set(found)


@pytest.mark.postgresql
@pytest.mark.usefixtures("patient_server")
def test_checks_of_a_named_database_ask_it() -> None:
    assert "W015" in ids(run_checks(databases=["default"]))


@pytest.mark.parametrize("model", [IdempotencyRecord, ProcessedEvent])
def test_missing_table_is_warned_about_with_the_command(model: type[Model]) -> None:
    """Also after an update whose migration was forgotten."""
    table = model._meta.db_table
    execute(f"ALTER TABLE {table} RENAME TO elsewhere")
    message = only(live())
    execute(f"ALTER TABLE elsewhere RENAME TO {table}")

    assert (ids([message]), table in message.msg) == (["W014"], True)
    assert message.hint == (
        "python manage.py migrate django_idempotency --database default"
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
def test_wait_for_a_table_that_nothing_bounds_is_warned_about() -> None:
    execute(IMPATIENT)
    bounded = live()
    execute("SET LOCAL lock_timeout = 0")
    message = only(live())

    assert (bounded, ids([message])) == ([], ["W018"])
    assert message.hint == "    ALTER ROLE postgres SET lock_timeout = '5s';"


@pytest.mark.postgresql
def test_granting_what_the_hint_says_ends_the_warning_about_deletes() -> None:
    execute(IMPATIENT)
    role = f"no-delete-{uuid.uuid4()}"  # wants quotes
    execute(f'CREATE ROLE "{role}"')
    execute(f'SET LOCAL ROLE "{role}"')
    message = only(live())
    execute("RESET ROLE")
    execute(str(message.hint))
    execute(f'SET LOCAL ROLE "{role}"')

    assert live() == []
    assert (ids([message]), message.hint) == (
        ["W016"],
        "GRANT DELETE ON django_idempotency_idempotencyrecord,"
        f' django_idempotency_processedevent TO "{role}";',
    )


@pytest.mark.postgresql
def test_read_only_database_is_warned_about_without_a_grant() -> None:
    execute(IMPATIENT)
    execute("SET LOCAL transaction_read_only = on")
    message = only(live())

    assert (ids([message]), "GRANT" in str(message.hint)) == (["W016"], False)
