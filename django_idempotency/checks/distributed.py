"""What only a server can tell of rows that are spread over several of them.

Note [Who commits first]
Citus commits in two phases what it knows to be on more than one server. A plain table on
its coordinator it doesn't know: a transaction that writes to one, and to a table that is
distributed, commits on the other server first, and only then on its own. If it is killed
in between, half of the transaction stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning
from django.db import router
from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.conf import conf
from django_idempotency.store.surroundings import isolation_level

OURS = "django_idempotency"

OTHERS = {
    "-YB-": (
        "YugabyteDB",
        "its rows have no ctid, and READ COMMITTED is another level there unless "
        "yb_enable_read_committed_isolation is on",
    ),
    "CockroachDB": ("CockroachDB", "its rows have no ctid, and it has no set_config"),
}
"""Servers that Django's backend takes for PostgreSQL, by what their version says."""

IS_CITUS = "SELECT to_regclass('pg_dist_partition') IS NOT NULL"
# A reference table ('t') is on all servers; another one that isn't split ('n') only on
# the coordinator, where Citus knows it.
IS_SPREAD = (
    "SELECT EXISTS (SELECT 1 FROM pg_dist_partition"
    " WHERE partmethod <> 'n' OR repmodel = 't')"
)
# Told as it has to be written in a statement: quoted, or with its schema, if need be.
PLAIN = (
    "SELECT found::text, found NOT IN (SELECT logicalrelid FROM pg_dist_partition)"
    " FROM unnest(%s::text[]) AS name, to_regclass(name) AS found"
    " WHERE found IS NOT NULL ORDER BY name"
)


def refused_behind_postgresql(
    connection: BaseDatabaseWrapper,
) -> Iterator[CheckMessage]:
    """A server that speaks PostgreSQL's protocol and isn't one."""
    version = str(_asked(connection, "SELECT version()"))
    for mark, (name, why) in OTHERS.items():
        if mark in version:
            yield Error(
                f"django_idempotency doesn't support {name}, which database "
                f"{connection.alias!r} is behind Django's backend for PostgreSQL: {why}. "
                "Each claim would fail.",
                hint="Let your database router send IdempotencyRecord and ProcessedEvent "
                "to PostgreSQL, together with what your protected views write.",
                id="django_idempotency.E011",
            )


def check_distribution(connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    """Compare what the settings say with what Citus knows, if it is Citus."""
    alias = connection.alias
    is_set = bool(conf.distribution_of(alias))
    if not _asked(connection, IS_CITUS):
        if is_set:
            yield Warning(
                f"IDEMPOTENCY_DISTRIBUTED names database {alias!r}, which should be "
                "Citus: its SQL works on one server as well, but is slower there.",
                hint=f"Leave {alias!r} out of IDEMPOTENCY_DISTRIBUTED, or, in that "
                "database:\n\n    CREATE EXTENSION citus;",
                id="django_idempotency.W060",
            )
        return
    setting = f'IDEMPOTENCY_DISTRIBUTED = {{"{alias}": "citus"}}'
    ours, theirs = _tables(alias)
    known, plain = _sorted_out(connection, ours)
    if known and not is_set:
        yield Error(
            f"Citus keeps {_listed(known)}, and takes none of the statements that are "
            "meant for one PostgreSQL: each claim fails.",
            hint=setting,
            id="django_idempotency.E062",
        )
    if not _asked(connection, IS_SPREAD):
        return
    if plain:
        yield Error(
            f"Citus must know {_listed(plain)}: beside a table that is distributed, a "
            "plain one is committed later. If the coordinator is killed in between, "
            "what a view has written stays without its record, and a retry does it a "
            "second time.",
            hint=_added(plain)
            if is_set
            else f"First in the settings, since it is needed then:\n\n    {setting}\n\n"
            f"Then in that database:\n\n{_added(plain)}",
            id="django_idempotency.E061",
        )
    if lost := _sorted_out(connection, theirs)[1]:
        yield Warning(
            f"Citus should know {_listed(lost)}, if a protected view writes there: "
            "beside a table that is distributed, a plain one is committed later. If the "
            "coordinator is killed in between, the answer is kept, and what the view has "
            "written there is lost.",
            hint=_added(lost),
            id="django_idempotency.W063",
        )
    if is_set and isolation_level(alias) != "read committed":
        yield Warning(
            f"Database {alias!r} should be used at READ COMMITTED: rows of other servers "
            "are found by an index only, and above that level different keys are then "
            "taken for a conflict, which ends requests with an error.",
            hint=f"In DATABASES[{alias!r}]['OPTIONS'], remove 'isolation_level'; on the "
            "server:\n\n    ALTER ROLE your_role RESET default_transaction_isolation;",
            id="django_idempotency.W064",
        )


def _tables(alias: str) -> tuple[list[str], list[str]]:
    """Return the names of our tables in this database, and of the project's."""
    ours: list[str] = []
    theirs: list[str] = []
    for model in apps.get_models(include_auto_created=True):
        meta = model._meta
        if meta.managed and not meta.proxy and router.db_for_write(model) == alias:
            (ours if meta.app_label == OURS else theirs).append(meta.db_table)
    return ours, theirs


def _sorted_out(
    connection: BaseDatabaseWrapper, tables: Collection[str]
) -> tuple[list[str], list[str]]:
    """Return which of the tables Citus knows, and which are plain ones."""
    with connection.cursor() as cursor:
        cursor.execute(PLAIN, [[*map(connection.ops.quote_name, tables)]])
        found = cursor.fetchall()
    return (
        [name for name, is_plain in found if not is_plain],
        [name for name, is_plain in found if is_plain],
    )


def _added(tables: Iterable[str]) -> str:
    # Else it refuses a table with a foreign key to another one.
    also = "cascade_via_foreign_keys => true"
    return "\n".join(
        f"    SELECT citus_add_local_table_to_metadata('{quoted}', {also});"
        for quoted in (each.replace("'", "''") for each in tables)
    )


def _listed(tables: Collection[str]) -> str:
    return ("table " if len(tables) == 1 else "tables ") + ", ".join(tables)


def _asked(connection: BaseDatabaseWrapper, statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]
