"""The table: how it is made, unmade and named."""

from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from django_idempotency.models import (
    HourlyCount,
    IdempotencyRecord,
    OperationIntent,
    OperationLink,
    ProcessedEvent,
)

pytestmark = pytest.mark.django_db(transaction=True)

MODELS = (
    *(HourlyCount, IdempotencyRecord, ProcessedEvent),
    *(OperationIntent, OperationLink),
)
TABLE = IdempotencyRecord._meta.db_table


def unmigrate() -> None:
    MigrationExecutor(connection).migrate([("django_idempotency", None)])


def migrate() -> None:
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes("django_idempotency"))


def tables() -> set[str]:
    names = connection.introspection.table_names()
    return {name for name in names if name.startswith("django_idempotency_")}


@pytest.mark.parametrize("field", ["AutoField", "BigAutoField", "SmallAutoField"])
def test_no_migration_is_missing(field: str, settings: Any) -> None:  # FR-110
    settings.DEFAULT_AUTO_FIELD = f"django.db.models.{field}"

    call_command("makemigrations", "django_idempotency", check=True, verbosity=0)


def test_migrations_are_reversible() -> None:
    unmigrate()
    unmade = tables()
    migrate()

    assert unmade == set()
    assert tables() == {model._meta.db_table for model in MODELS}


@pytest.mark.postgresql
def test_pages_have_room_for_updates() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT reloptions FROM pg_class WHERE relname = %s", [TABLE])

        assert cursor.fetchone()[0] == ["fillfactor=60"]


def constraints() -> dict[str, Any]:
    with connection.cursor() as cursor:
        return connection.introspection.get_constraints(cursor, TABLE)


def test_constraints_and_indexes_are_named() -> None:
    named = {name for name, what in constraints().items() if not what["primary_key"]}
    assert named >= {
        "idempotency_record_expires",
        "idempotency_record_kept_has_answer",
        "idempotency_record_state",
    }


@pytest.mark.postgresql
def test_only_what_no_common_update_changes_is_indexed() -> None:
    """Note [Which columns are indexed]"""
    indexed = sorted(
        what["columns"]
        for what in constraints().values()
        if what["index"] or what["primary_key"]
    )
    assert indexed == [["expires_at"], ["held_since"], ["id"], ["key"]]
