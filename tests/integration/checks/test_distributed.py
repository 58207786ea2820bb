"""What is said where the rows are on several servers, or the settings say so.

On one PostgreSQL, in which a table has the name and the columns of Citus's own: the
checks ask nothing else. By hand they were asked of a Citus, too.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.db import connection

from django_idempotency.checks.databases import check_databases
from django_idempotency.checks.distributed import (
    check_distribution,
    refused_behind_postgresql,
)
from django_idempotency.checks.settings import check_settings
from django_idempotency.models import IdempotencyRecord
from tests.support.cases import cases
from tests.support.pages import DOCS, block, run
from tests.testapp.models import Order

from .messages import execute, ids, live, only

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db]

OURS = {
    model._meta.db_table
    for model in apps.get_app_config("django_idempotency").get_models()
}
RECORDS = IdempotencyRecord._meta.db_table
SPLIT, EVERYWHERE, LOCAL = ("h", "c"), ("n", "t"), ("n", "s")

Know = Callable[..., None]


@pytest.fixture
def citus() -> Iterator[Know]:
    """Let Citus know these tables, as it writes it down."""
    execute(
        "CREATE TEMPORARY TABLE pg_dist_partition"
        " (logicalrelid regclass, partmethod char, repmodel char)"
    )

    def know(**tables: tuple[str, str]) -> None:
        with connection.cursor() as cursor:
            for name, (method, model) in tables.items():
                cursor.execute(
                    "INSERT INTO pg_dist_partition VALUES (%s::regclass, %s, %s)",
                    [name, method, model],
                )

    yield know
    execute("DROP TABLE IF EXISTS pg_temp.pg_dist_partition")


def all_tables(kind: tuple[str, str], *less: str) -> dict[str, tuple[str, str]]:
    tables = {
        each._meta.db_table for each in apps.get_models(include_auto_created=True)
    }
    return dict.fromkeys(tables - {*less}, kind)


def said(*, is_set: bool, settings: Any) -> list[Any]:
    settings.IDEMPOTENCY_DISTRIBUTED = {"default": "citus"} if is_set else {}
    return [*check_distribution(connection)]


@cases(
    "is_set, known, expected",
    {
        "not used": (False, {}, []),
        "not used, and set": (True, {}, []),
        "all of it split": (True, all_tables(SPLIT), []),
        "all of it everywhere": (True, all_tables(EVERYWHERE), []),
        "ours local, theirs split": (
            *(True, all_tables(SPLIT) | dict.fromkeys(OURS, LOCAL)),
            [],
        ),
        "not set": (False, all_tables(SPLIT), ["E062"]),
        "not set, ours local": (False, dict.fromkeys(OURS, LOCAL), ["E062"]),
        # Nothing is committed elsewhere.
        "one is local": (True, {"testapp_order": LOCAL}, []),
        "ours plain": (True, all_tables(SPLIT, *OURS), ["E061"]),
        "ours plain, theirs everywhere": (
            *(False, all_tables(EVERYWHERE, *OURS)),
            ["E061"],
        ),
        "records plain": (False, all_tables(SPLIT, RECORDS), ["E062", "E061"]),
        "orders plain": (True, all_tables(SPLIT, "testapp_order"), ["W063"]),
        "all but one plain": (True, {"auth_group": SPLIT}, ["E061", "W063"]),
    },
)
def test_layout_that_loses_is_named(
    is_set: bool, known: Any, expected: list[str], citus: Know, settings: Any
) -> None:
    citus(**known)

    assert ids(said(is_set=is_set, settings=settings)) == expected


def test_statement_to_run_is_shown_for_each_table(citus: Know, settings: Any) -> None:
    citus(**all_tables(SPLIT, RECORDS, "testapp_order"))
    lost, left = said(is_set=True, settings=settings)

    added = "SELECT citus_add_local_table_to_metadata('{}', cascade_via_foreign_keys => true);"
    assert str(lost.hint).strip() == added.format(RECORDS)
    assert str(left.hint).strip() == added.format("testapp_order")
    (_, both) = said(is_set=False, settings=settings)[:2]
    assert 'IDEMPOTENCY_DISTRIBUTED = {"default": "citus"}' in str(both.hint)


@cases(
    "db_table, made, shown",
    {
        "another schema": ('"far"."order"', 'far."order"', 'far."order"'),
        "the same, by halves": ('far"."order', 'far."order"', 'far."order"'),
        "capitals": ("Orders", '"Orders"', '"Orders"'),
        "apostrophe": ("one's", '"one\'s"', "\"one''s\""),
    },
)
def test_table_is_found_by_what_django_makes_of_its_name(
    db_table: str,
    made: str,
    shown: str,
    citus: Know,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    citus(**all_tables(SPLIT, "testapp_order"))
    execute("CREATE SCHEMA far")
    execute(f"CREATE TABLE {made} (id int)")
    monkeypatch.setattr(Order._meta, "db_table", db_table)

    message = only(said(is_set=True, settings=settings))

    assert f"_to_metadata('{shown}', " in str(message.hint)


def test_page_names_each_of_our_tables_in_both_ways() -> None:
    page = (DOCS / "howto/deploy-on-citus.md").read_text()

    for way in ("citus_add_local_table_to_metadata", "create_distributed_table"):
        assert set(re.findall(rf"SELECT {way}\('(\w+)'", page)) == OURS
    names = run(block("howto/deploy-on-citus", "DISTRIBUTED"), {})
    assert names["IDEMPOTENCY_DISTRIBUTED"] == {"default": "citus"}


def test_server_without_citus_is_no_reason_for_its_sql(settings: Any) -> None:
    assert said(is_set=False, settings=settings) == []
    assert ids(said(is_set=True, settings=settings)) == ["W060"]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
@pytest.mark.django_db(transaction=True)
def test_level_above_read_committed_is_warned_about(
    level: str, citus: Know, settings: Any
) -> None:
    citus(**all_tables(SPLIT))
    before = said(is_set=True, settings=settings)
    execute(f"SET default_transaction_isolation = '{level}'")
    message = only(said(is_set=True, settings=settings))
    execute("RESET default_transaction_isolation")

    assert (before, ids([message])) == ([], ["W064"])


@cases(
    "version, name",
    {
        "yugabyte": (
            "PostgreSQL 11.2-YB-2.20.1.0-b0 on x86_64-pc-linux-gnu, 64-bit",
            "YugabyteDB",
        ),
        "cockroach": ("CockroachDB CCL v24.1.0 (x86_64-pc-linux-gnu)", "CockroachDB"),
    },
)
def test_server_that_only_speaks_like_postgresql_is_refused(
    version: str, name: str
) -> None:
    """Django's backend asks it nothing that would show."""
    before = [*refused_behind_postgresql(connection)]
    execute(
        "CREATE FUNCTION public.version() RETURNS text LANGUAGE sql"
        f" AS $$ SELECT '{version}'::text $$"
    )
    execute("SET LOCAL search_path = public, pg_catalog")
    message = only(live())

    assert (before, ids([message])) == ([], ["E011"])
    assert name in message.msg


@cases(
    "value",
    {
        "no dict": "citus",
        "another kind": {"default": "galera"},
        "no such alias": {"nowhere": "citus"},
        "list": {"default": ["citus"]},
        "only a list": ["default"],
        "nothing": None,
    },
)
def test_setting_that_says_nothing_is_refused(
    value: Any, citus: Know, settings: Any
) -> None:
    """By the check, and not by an error of what asks for the setting before."""
    settings.IDEMPOTENCY_DISTRIBUTED = value
    assert not {*ids(live()), *ids(check_databases(None))} & {"E011", "E062"}
    message = only(check_settings(None))

    assert (ids([message]), message.hint) == (
        ["E006"],
        'IDEMPOTENCY_DISTRIBUTED = {"default": "citus"}',
    )


def test_setting_that_names_a_database_is_right(settings: Any) -> None:
    settings.IDEMPOTENCY_DISTRIBUTED = {"default": "citus"}

    assert check_settings(None) == []
    assert "W060" in ids(live())
