"""The SQL of the two tables, put together once for each kind of database.

Every statement on a hot path touches one row by its id. The parameters of each are given
by the verbs of the store that has it, in the order of the placeholders.
"""

from __future__ import annotations

from functools import cache

from .decisions import State
from .dialects import Dialect
from .models import IdempotencyRecord, ProcessedEvent

__all__ = ["EventStatements", "RecordStatements"]


class RecordStatements:
    """The statements on `IdempotencyRecord`."""

    def __init__(self, dialect: Dialect) -> None:
        table = IdempotencyRecord._meta.db_table
        now, later, json = dialect.now, dialect.later, dialect.json
        in_flight, kept, released, held = (
            f"'{state.value}'"
            for state in (State.IN_FLIGHT, State.KEPT, State.RELEASED, State.HELD)
        )
        fresh = {
            "id": "%s",
            "scope": "%s",
            "key": "%s",
            "method": "%s",
            "path": "%s",
            "fingerprint": "%s",
            "effects": "'{}'",
            "attempts": "1",
            "last_error": "%s",
            "replays": "0",
            "created_at": now,
            "expires_at": later,
        }
        leased = {**fresh, "lease_token": "%s", "lease_expires_at": later}
        self.claim = dialect.insert_first(table, fresh, State.IN_FLIGHT)
        self.claim_leased = dialect.insert_first(table, leased, State.IN_FLIGHT)
        read = (
            f"SELECT scope, {dialect.quoted('key')}, fingerprint, state,"
            f" response_status, response_headers, response_body, expires_at <= {now},"
            f" {dialect.seconds_until('lease_expires_at')}, {dialect.location}"
            f" FROM {table} WHERE"
        )
        self.read = f"{read} id = %s"
        self.read_newest = f"{self.read}{dialect.newest}"
        self.read_locked = f"{read} {dialect.at_row}{dialect.newest}"
        self.read_effects = f"SELECT effects FROM {table} WHERE {dialect.at_row}"

        def unless_expired(value: str, otherwise: str) -> str:
            return (
                f"CASE WHEN {table}.expires_at <= {now} THEN {otherwise}"
                f" ELSE {table}.{value} END"
            )

        nothing, no_steps = "''", json.replace("%s", "'{}'")

        def renewal(token: str, lease_end: str) -> str:
            return (
                f"UPDATE {table} SET state = {in_flight}, fingerprint = %s,"
                f" attempts = {unless_expired('attempts + 1', '1')},"
                f" effects = {unless_expired('effects', no_steps)},"
                f" last_error = {unless_expired('last_error', nothing)},"
                f" replays = {unless_expired('replays', '0')},"
                f" created_at = {unless_expired('created_at', now)},"
                " last_replayed_at = NULL, completed_at = NULL, response_status = NULL,"
                f" response_headers = NULL, response_body = NULL, lease_token = {token},"
                f" lease_expires_at = {lease_end}, expires_at = {later}"
                f" WHERE {dialect.at_row}{dialect.renew_returns}"
            )

        self.renew = renewal("NULL", "NULL")
        self.take_over = renewal("%s", later)
        self.keep = (
            f"UPDATE {table} SET state = {kept}, response_status = %s,"
            f" response_headers = {json}, response_body = %s, completed_at = {now}"
            f" WHERE {dialect.at_row} AND state = {in_flight}"
        )
        self.insert_failure = dialect.insert_first(table, fresh, State.RELEASED)
        # As in the renewal, `expires_at` comes last: MariaDB assigns from left to right
        # and reads what it has just written.
        self.note_failure = (
            f"UPDATE {table} SET attempts = {unless_expired('attempts + 1', '1')},"
            f" effects = {unless_expired('effects', no_steps)},"
            f" created_at = {unless_expired('created_at', now)},"
            f" last_error = %s, fingerprint = %s, expires_at = {later}"
            f" WHERE id = %s AND state = {released}"
        )
        self.count_replay = (
            f"UPDATE {table} SET replays = replays + 1, last_replayed_at = {now}"
            f" WHERE id = (SELECT id FROM {table} WHERE id = %s{dialect.skip_locked})"
        )
        self.count_replay_alone = self.count_replay + dialect.and_unflushed
        self._write_leased(dialect, table)
        expired = (
            f"expires_at <= {dialect.cutoff} AND state <> {held}"
            f" AND (lease_expires_at IS NULL OR lease_expires_at <= {now})"
        )
        self.count_expired = f"SELECT count(*) FROM {table} WHERE {expired}"
        self.purge = dialect.delete_batch(table, expired)

    def _write_leased(self, dialect: Dialect, table: str) -> None:
        """Every write of an owner depends on the token: a late one changes nothing."""
        now, later, json = dialect.now, dialect.later, dialect.json
        in_flight, kept, released, held = (
            f"'{state.value}'"
            for state in (State.IN_FLIGHT, State.KEPT, State.RELEASED, State.HELD)
        )
        owned = "WHERE id = %s AND lease_token = %s"
        no_lease = "lease_token = NULL, lease_expires_at = NULL"
        self.remember = f"UPDATE {table} SET effects = {json}, state = %s {owned}"
        self.extend = f"UPDATE {table} SET lease_expires_at = {later} {owned}"
        self.keep_leased = (
            f"UPDATE {table} SET state = {kept}, response_status = %s,"
            f" response_headers = {json}, response_body = %s, completed_at = {now},"
            f" {no_lease} {owned} AND state = {in_flight}"
        )
        # What is held stays so: somebody has to find out.
        self.release_leased = (
            f"UPDATE {table} SET state = CASE WHEN state = {held} THEN {held}"
            f" ELSE {released} END, last_error = %s, {no_lease} {owned}"
        )
        self.forget_leased = (
            f"DELETE FROM {table} {owned} AND attempts = 1 AND effects = '{{}}'"
        )


class EventStatements:
    """The statements on `ProcessedEvent`."""

    def __init__(self, dialect: Dialect) -> None:
        table = ProcessedEvent._meta.db_table
        now, later = dialect.now, dialect.later
        fresh = {
            "id": "%s",
            "endpoint": "%s",
            "source": "%s",
            "account": "%s",
            "event_id": "%s",
            "event_type": "%s",
            "object_key": "%s",
            "body_digest": "%s",
            "headers": dialect.json,
            "occurred_at": "%s",
            "payload": "%s",
            "attempts": "%s",
            "last_error": "%s",
            "reruns": "'[]'",
            "received_at": now,
            "expires_at": later,
        }
        self.claim = dialect.insert_first(table, fresh, "received")
        self.store = dialect.insert_first(
            table, {**fresh, "next_attempt_at": now}, "received"
        )
        self.read = (
            f"SELECT state, attempts, state <> 'dead' AND expires_at <= {now},"
            f" next_attempt_at IS NOT NULL FROM {table} WHERE id = %s"
        )
        self.read_newest = f"{self.read}{dialect.newest}"
        self.take_over = (
            f"UPDATE {table} SET state = 'received', attempts = attempts + 1,"
            f" payload = NULL, expires_at = {later} WHERE id = %s"
            " AND next_attempt_at IS NULL"
            f"{dialect.renew_returns}"
        )
        self.settle = (
            f"UPDATE {table} SET state = %s, payload = %s, next_attempt_at = NULL,"
            f" processed_at = {now} WHERE {dialect.at_row} AND state = 'received'"
        )
        self.insert_failed = dialect.insert_first(table, fresh, "failed")
        self.insert_dead = dialect.insert_first(table, fresh, "dead")
        self.note_failure = (
            f"UPDATE {table} SET state = %s, payload = %s, last_error = %s,"
            " attempts = attempts + 1 WHERE id = %s AND state = 'failed'"
        )
        self._write_inbox(dialect, table)
        expired = (
            f"expires_at <= {dialect.cutoff} AND next_attempt_at IS NULL"
            " AND state <> 'dead'"
        )
        self.count_expired = f"SELECT count(*) FROM {table} WHERE {expired}"
        self.purge = dialect.delete_batch(table, expired)

    def _write_inbox(self, dialect: Dialect, table: str) -> None:
        now, later = dialect.now, dialect.later
        due = (
            f"SELECT id FROM {table} AS due"
            f" WHERE next_attempt_at <= {dialect.statement_began}"
        )
        # Of one object, no event before an earlier one that is not done.
        in_order = (
            " AND (object_key = '' OR NOT EXISTS (SELECT 1"
            f" FROM {table} AS earlier WHERE earlier.endpoint = due.endpoint"
            f" AND {dialect.equal('earlier.object_key', 'due.object_key')}"
            " AND earlier.next_attempt_at IS NOT NULL"
            " AND (earlier.received_at, earlier.id) < (due.received_at, due.id)))"
        )
        self.due = (
            f"{due}{in_order} ORDER BY next_attempt_at LIMIT 1{dialect.skip_locked}"
        )
        self.begin = (
            f"UPDATE {table} SET attempts = attempts + 1, next_attempt_at = {later}"
            " WHERE id = %s"
        )
        stored = (
            "SELECT endpoint, source, account, event_id, event_type, object_key,"
            f" headers, payload, attempts FROM {table} WHERE id = %s AND"
        )
        waiting, finished = (
            f"{stored} {condition} AND payload IS NOT NULL"
            for condition in ("next_attempt_at IS NOT NULL", "next_attempt_at IS NULL")
        )
        lock = dialect.skip_locked.replace(" SKIP LOCKED", "")
        self.take_at_once = f"{waiting}{dialect.skip_locked}"
        self.take = f"{waiting}{lock}"
        self.take_finished = f"{finished}{lock}"
        # By its number an attempt knows whether another one has begun meanwhile; what
        # is done has no payload any more.
        failed = f"UPDATE {table} SET state = %s, last_error = %s, next_attempt_at ="
        mine = "WHERE id = %s AND attempts = %s AND payload IS NOT NULL"
        self.retry = f"{failed} {later} {mine} AND next_attempt_at IS NOT NULL"
        self.bury = f"{failed} NULL {mine}"
        self.finish = (
            f"UPDATE {table} SET state = %s, payload = %s, next_attempt_at = NULL,"
            f" processed_at = {now} WHERE id = %s"
        )


@cache
def record_statements(dialect: Dialect) -> RecordStatements:
    return RecordStatements(dialect)


@cache
def event_statements(dialect: Dialect) -> EventStatements:
    return EventStatements(dialect)
