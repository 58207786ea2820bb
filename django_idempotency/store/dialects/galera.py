"""Galera: nodes of MariaDB in a cluster, all of which take writes.

Note [What another node can't see]
A lock is one node's own. What another node writes is seen here after its COMMIT only,
when the nodes certify it: of two transactions that have written the same row, the second
is refused, like the victim of a deadlock. That alone keeps a second execution from being
committed, but not from being begun: the view, with its calls to others, would run once on
each node. So a claim is *streamed*: it is certified when it is made, and then locks the
row on every node, as if they were one.

Note [Statements that Galera tries again]
What commits itself is tried again by the server if another node was first, and then the
limits of a `SET STATEMENT` around it stay in the session for ever: the next statements,
the project's too, give up at once. So the server is told to leave that to us.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from .mariadb import MariaDB

STREAM = "wsrep_trx_fragment_unit = 'statements', wsrep_trx_fragment_size = 1"
SET = "SET STATEMENT "


class Galera(MariaDB):  # pragma: no cover - Galera
    first_limit = "wsrep_retry_autocommit = 0, "
    notes_failures = False
    notes_in_flight = False

    def streamed(self, statement: str) -> str:
        if statement.startswith(SET):
            return f"{SET}{STREAM}, {statement.removeprefix(SET)}"
        return f"{SET}{STREAM} FOR {statement}"

    @contextmanager
    def looking_anywhere(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> Iterator[None]:
        # No limit of a statement ends this wait, but the cluster's own, which is
        # `repl.causal_read_timeout`: so it isn't begun by those who may not wait.
        def execute_up_to_date(
            execute: Callable[..., Any], sql: str, *arguments: Any
        ) -> Any:
            if wait and sql.startswith(SET):
                sql = f"{SET}wsrep_sync_wait = 1, {sql.removeprefix(SET)}"
            return execute(sql, *arguments)

        with (
            self.looking(connection, wait),
            connection.execute_wrapper(execute_up_to_date),
        ):
            yield
