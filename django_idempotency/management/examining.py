"""What the promise depends on: asked of the database, the router and the settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from django.core.checks import ERROR, Tags, run_checks
from django.db import connections, router
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from django_idempotency.models import IdempotencyRecord, OperationLink
from django_idempotency.store.health import gauges
from django_idempotency.store.surroundings import (
    MODELS,
    clock_is_ahead,
    isolation_level,
    refused_verbs,
    session_is_shared,
    updates_on_page,
)

from .durations import spelled
from .findings import Finding, fails, ok, warning

APP = "django_idempotency"
CHECKS = ("idempotency", Tags.urls, Tags.database)
"""The tags under which this package has checks."""

CLOCKS_MAY_DIFFER = timedelta(seconds=2)
PURGE_MAY_LAG = timedelta(days=1)
FEW_UPDATES = 1000
ENOUGH_STAY = 0.7
"""The share of updates that should stay on their page."""
LOOKS = 20


def routing() -> Iterator[Finding]:
    written = {router.db_for_write(IdempotencyRecord) for _ in range(LOOKS)}
    with_it = written | {router.db_for_write(OperationLink)}
    read = {router.db_for_read(IdempotencyRecord) for _ in range(LOOKS)}
    same = (
        "In your database router, let db_for_write() and db_for_read() of the app label "
        f'"{APP}" return one alias'
    )
    if len(with_it) > 1:
        yield fails(
            "router",
            f"records and their links are written to {_listed(with_it)}: a key that is "
            "used in one is free in the other",
            same,
        )
    elif read != written:
        yield warning(
            "router",
            f"records are written to {_listed(written)}, and your own queries and the "
            f"admin read them from {_listed(read)}, which may lag behind; requests read "
            "them where they are written",
            same,
        )
    else:
        yield ok("router", f"records are written to and read from {_listed(written)}")


def system_checks(using: str) -> Iterator[Finding]:
    messages = run_checks(tags=CHECKS, databases=[using])
    ours = [
        message
        for message in messages
        if str(message.id).startswith(f"{APP}.") and not message.is_silenced()
    ]
    for message in ours:
        name = str(message.id).removeprefix(f"{APP}.")
        find = fails if message.level >= ERROR else warning
        remedy = " ".join(str(message.hint).split())
        yield find(f"check {name}", str(message.msg), remedy)
    if not ours:
        yield ok("checks", "none has anything to say")


def isolation(using: str) -> Iterator[Finding]:
    if level := isolation_level(using):
        yield ok("isolation", level)


def clock(using: str) -> Iterator[Finding]:
    ahead = clock_is_ahead(using)
    if ahead is None:
        return
    told = f"the server's is {abs(ahead).total_seconds():.2f} s "
    told += f"{'ahead of' if ahead > timedelta(0) else 'behind'} this host's"
    if abs(ahead) <= CLOCKS_MAY_DIFFER:
        yield ok("clock", told)
    else:
        yield warning(
            "clock",
            f"{told}: leases and retentions go by the server's alone, but times in a "
            "history won't fit together",
            "Let both synchronise with the same time server (NTP)",
        )


def pooling(using: str) -> Iterator[Finding]:
    """Who is behind this connection, while others are in a transaction."""
    is_shared = session_is_shared(using)
    if is_shared is None:
        return
    settings = connections[using].settings_dict
    options = settings["OPTIONS"]
    if not is_shared:
        pooled = " of a pool in this process" if options.get("pool") else ""
        yield ok("pooling", f"a connection{pooled} keeps its session")
        return
    wrong = [name for name in ("prepare_threshold", "options") if options.get(name)]
    if settings.get("DISABLE_SERVER_SIDE_CURSORS") and not wrong:
        yield ok("pooling", "a pooler in transaction mode, with the settings for it")
        return
    yield warning(
        "pooling",
        "a pooler in transaction mode is between: what is set for a session, a cursor "
        "or a prepared statement may be met by another client",
        f"DATABASES[{using!r}]['DISABLE_SERVER_SIDE_CURSORS'] = True"
        + (f", and remove {' and '.join(wrong)} from OPTIONS" if wrong else ""),
    )


def updates(using: str) -> Iterator[Finding]:
    counted = updates_on_page(using)
    if counted is None:
        return
    count, hot = counted
    table = IdempotencyRecord._meta.db_table
    if count < FEW_UPDATES:
        yield ok("updates", f"only {count} so far, too few to say how many are HOT")
    elif hot / count >= ENOUGH_STAY:
        yield ok("updates", f"{hot / count:.0%} of {count:,} stay on their page (HOT)")
    else:
        yield warning(
            "updates",
            f"only {hot / count:.0%} of {count:,} stay on their page (HOT), so the "
            "table and its indexes grow",
            f"Drop indexes of your own on {table}, and leave room: ALTER TABLE {table} "
            "SET (fillfactor = 60)",
        )


def pending_migrations(using: str) -> Iterator[Finding]:
    executor = MigrationExecutor(connections[using])
    leaves = [node for node in executor.loader.graph.leaf_nodes() if node[0] == APP]
    if pending := [each.name for each, _ in executor.migration_plan(leaves)]:
        yield fails(
            "migrations",
            f"{', '.join(pending)} not applied",
            f"python manage.py migrate {APP} --database {using}",
        )
    else:
        yield ok("migrations", "all are applied")


def grants(using: str) -> Iterator[Finding]:
    refused = [*refused_verbs(using)]
    if not refused:
        yield ok("grants", "the three tables can be read, written and purged")
        return
    tables = ", ".join(model._meta.db_table for model in MODELS)
    yield fails(
        "grants",
        f"refused: {'; '.join(refused)}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO the database's user, on a "
        "server that takes writes",
    )


def purge_lag(using: str) -> Iterator[Finding]:
    oldest = gauges(using).oldest_expired_at
    lag = timedelta(0) if oldest is None else timezone.now() - oldest
    if lag <= PURGE_MAY_LAG:
        yield ok("purge", f"nothing is past its retention for more than {spelled(lag)}")
    else:
        yield warning(
            "purge",
            f"rows are past their retention for {spelled(lag)}",
            "Let cron run it each hour: python manage.py purge_idempotency_keys",
        )


def _listed(aliases: Iterable[str]) -> str:
    return " and ".join(map(repr, sorted(aliases)))
