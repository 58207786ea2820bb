"""PostgreSQL, on one server: what is faster there than what is portable.

Note [The wait inside the claim]
On PostgreSQL a copy waits for an uncommitted leader at the unique index, and
`lock_timeout` bounds that. It is set and restored inside the INSERT itself, since a
separate statement would cost every first call a round trip. RETURNING is evaluated only
for an inserted row; after a conflict the setting is restored by rolling back the
savepoint or transaction around the claim, which the engine always does.

It bounds the wait for each leader, not for several that fail one after the other. So the
first INSERT waits only for a moment; a copy that then knows of a leader can afford the
extra statements that bound the rest exactly (`locking`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import BooleanField, QuerySet
from django.db.models.expressions import RawSQL

from .base import Batch, Dialect, milliseconds
from .portable import PortablePostgreSQL

WHERE_AND_UNTIL = (
    "ctid, pg_current_xact_id()::text, floor(extract(epoch FROM expires_at))::bigint"
)
"""What a claim has to know of its row."""


class PostgreSQL(PortablePostgreSQL):
    now = "clock_timestamp()"
    bounds_claims = False
    locks_what_it_finds = True
    # See Note [The wait inside the claim]. Nested, because CASE guarantees the order of
    # evaluation and AND does not.
    claimed_state = (
        "CASE WHEN set_config('idempotency.lock_timeout',"
        " current_setting('lock_timeout'), true) IS NOT NULL THEN"
        " CASE WHEN set_config('lock_timeout', %(wait)s, true) IS NOT NULL"
        " THEN STATE END END"
    )
    claim_returns = (
        f" RETURNING {WHERE_AND_UNTIL}, set_config('lock_timeout',"
        " current_setting('idempotency.lock_timeout'), true)"
    )
    renew_returns = f" RETURNING {WHERE_AND_UNTIL}"
    # By location, because under SERIALIZABLE a look-up by id takes a predicate lock on
    # the whole index page, and claims of other keys would fail without a real conflict.
    at_row = "ctid = %(location)s::tid AND id = %(id)s"
    location = "ctid::text"
    rows_are_located = True
    and_unflushed = " AND set_config('synchronous_commit', 'off', true) IS NOT NULL"

    claiming = Dialect.claiming

    def found_at(self, rows: QuerySet[Any], location: str | None) -> QuerySet[Any]:
        if location is None:
            return rows
        return rows.filter(RawSQL("ctid = %s::tid", [location], BooleanField()))

    def delete_batch(self, table: str, condition: str) -> Batch:
        return self._batch_at_once(f"DELETE FROM {table}", table, condition)

    def update_batch(self, table: str, columns: str, condition: str) -> Batch:
        return self._batch_at_once(f"UPDATE {table} SET {columns}", table, condition)

    def _batch_at_once(self, act: str, table: str, condition: str) -> Batch:
        # A partitioned table can have a row at that location in each partition, and one
        # that isn't selected may be locked.
        return Batch(
            at_once="WITH selected AS MATERIALIZED (SELECT tableoid AS part,"
            f" ctid AS place {self._oldest(table, condition)})"
            f" {act} WHERE ctid = ANY(ARRAY(SELECT place FROM selected))"
            " AND (tableoid, ctid) IN (SELECT part, place FROM selected)"
            f" AND {condition}"
        )

    def _longest_statement(self, wait: timedelta) -> str | None:
        # A lock's limit starts anew with each one that is waited for; that of the
        # statement doesn't, but would also bound a statement that waits for nobody.
        return milliseconds(wait) if wait else None
