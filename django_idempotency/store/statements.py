"""The SQL of the two tables, built once for each kind of database.

Every statement on a hot path touches one row by its id. A parameter has the name of the
column that it is written to or compared with, or else says what it is.
"""

from __future__ import annotations

from functools import cache

from django_idempotency.core.decisions import RecordState
from django_idempotency.core.events import EventState
from django_idempotency.models import IdempotencyRecord, ProcessedEvent

from .dialects.base import Dialect


class RecordStatements:
    """The statements on `IdempotencyRecord`."""

    def __init__(self, dialect: Dialect) -> None:
        table = IdempotencyRecord._meta.db_table
        now = dialect.now
        retained, leased_for = dialect.later("retention"), dialect.later("lease")
        remembered = dialect.later("remembered")
        in_flight, kept, released, held, past = (
            f"'{state.value}'"
            for state in (
                RecordState.IN_FLIGHT,
                RecordState.KEPT,
                RecordState.RELEASED,
                RecordState.HELD,
                RecordState.EXPIRED,
            )
        )
        fresh = {
            "id": "%(id)s",
            "scope": "%(scope)s",
            "key": "%(key)s",
            "method": "%(method)s",
            "path": "%(path)s",
            "fingerprint": "%(fingerprint)s",
            "effects": "'{}'",
            "attempts": "1",
            "last_error": "''",
            "history": dialect.json("%(history)s"),
            "replays": "0",
            "created_at": now,
            "expires_at": retained,
            "remembered_until": remembered,
        }
        leased = {
            **fresh,
            "lease_token": "%(lease_token)s",
            "lease_expires_at": leased_for,
        }
        self.claim = dialect.streamed(
            dialect.insert_first(table, fresh, RecordState.IN_FLIGHT)
        )
        self.claim_leased = dialect.insert_first(table, leased, RecordState.IN_FLIGHT)
        # A settlement alone stands for nothing: a person has said that it wasn't done.
        has_steps = f"{table}.effects LIKE '{{\"steps\"%%'"
        has_done = f"(state IN ({kept}, {past}) OR {has_steps})"
        read = (
            f"SELECT scope, {dialect.quoted('key')}, fingerprint, state,"
            f" response_status, response_headers, response_body, expires_at <= {now},"
            f" remembered_until > {now} AND {has_done},"
            f" {dialect.seconds_until('lease_expires_at')}, {dialect.location},"
            f" {dialect.epoch('expires_at')} FROM {table} WHERE"
        )
        self.read = f"{read} id = %(id)s"
        self.read_newest = f"{self.read}{dialect.newest}"
        self.read_locked = f"{read} {dialect.at_row}{dialect.newest}"
        self.read_journal = (
            f"SELECT effects, earlier_steps FROM {table} WHERE {dialect.at_row}"
        )

        noted = dialect.appended("history", "note")

        def renewal(token: str, lease_end: str) -> str:
            return (
                f"UPDATE {table} SET state = {in_flight},"
                " fingerprint = %(fingerprint)s, attempts = attempts + 1,"
                f" history = {noted}, held_since = NULL,"
                " last_replayed_at = NULL, completed_at = NULL, response_status = NULL,"
                f" response_headers = NULL, response_body = NULL, lease_token = {token},"
                f" lease_expires_at = {lease_end}, expires_at = {retained},"
                f" remembered_until = {remembered}"
                f" WHERE {dialect.at_row}{dialect.renew_returns}"
            )

        self.renew = dialect.streamed(renewal("NULL", "NULL"))
        self.take_over = renewal("%(lease_token)s", leased_for)
        answer = (
            "response_status = %(response_status)s,"
            f" response_headers = {dialect.json('%(response_headers)s')},"
            " response_body = %(response_body)s"
        )
        claimed = f"{dialect.at_row} AND state = {in_flight}{dialect.same_transaction}"
        self.keep = (
            f"UPDATE {table} SET state = {kept}, {answer}, completed_at = {now}"
            f" WHERE {claimed}"
        )
        self.release = (
            f"UPDATE {table} SET state = {released}, last_error = %(last_error)s,"
            f" history = {noted} WHERE {claimed}"
        )
        self.forget = (
            f"DELETE FROM {table} WHERE {claimed} AND attempts = 1 AND effects = '{{}}'"
        )
        failed = {**fresh, "last_error": "%(last_error)s"}
        self.insert_failure = dialect.insert_first(table, failed, RecordState.RELEASED)
        self.note_failure = (
            f"UPDATE {table} SET attempts = attempts + 1, history = {noted},"
            " last_error = %(last_error)s, fingerprint = %(fingerprint)s,"
            f" expires_at = {retained}, remembered_until = {remembered}"
            f" WHERE id = %(id)s AND state = {released}"
        )
        self.delete = f"DELETE FROM {table} WHERE {dialect.at_row}"
        # Past its retention, unless it is remembered that a step of it was done.
        self.delete_failed = (
            f"DELETE FROM {table} WHERE id = %(id)s AND state = {released}"
            f" AND expires_at <= {now} AND NOT ({has_steps}"
            f" AND remembered_until IS NOT NULL AND remembered_until > {now})"
        )
        here = f"WHERE id = (SELECT id FROM {table} WHERE id = %(id)s{dialect.skip_locked})"
        self.count_replay = (
            f"UPDATE {table} SET replays = replays + 1, last_replayed_at = {now},"
            f" history = {noted}"
            f" {here}"
        )
        unowned = "" if dialect.notes_in_flight else f" AND state <> {in_flight}"
        self.add_note = f"UPDATE {table} SET history = {noted} {here}{unowned}"
        # Also what was committed in the middle of its work waits for a person.
        self.hold = (
            f"UPDATE {table} SET history = {noted}, state = {held},"
            f" held_since = {dialect.since('held_since')} {here} AND"
            f" (state = {held} OR state = {in_flight} AND lease_expires_at IS NULL)"
            f" AND (lease_expires_at IS NULL OR lease_expires_at <= {now})"
        )
        self._write_leased(dialect, table, answer)
        # Nor one that was committed in the middle of its work, without a lease.
        expired = (
            f"expires_at <= {dialect.cutoff} AND state <> {held}"
            f" AND (lease_expires_at <= {now}"
            f" OR lease_expires_at IS NULL AND state <> {in_flight})"
        )
        is_remembered = f"remembered_until > {dialect.cutoff} AND {has_done}"
        to_shorten = f"{expired} AND state <> {past} AND {is_remembered}"
        to_delete = f"{expired} AND ({is_remembered}) IS NOT TRUE"
        self.count_expired = f"SELECT count(*) FROM {table} WHERE {to_delete}"
        self.purge = dialect.delete_batch(table, to_delete)
        self.count_to_shorten = f"SELECT count(*) FROM {table} WHERE {to_shorten}"
        # With its new date it isn't looked at again before that has come.
        tombstone = (
            f"state = {past}, response_headers = NULL, response_body = NULL,"
            " effects = '{}', earlier_steps = NULL, lease_token = NULL,"
            " lease_expires_at = NULL, held_since = NULL,"
            f" history = {dialect.noted_end('expires_at')}, expires_at = remembered_until"
        )
        self.shorten = dialect.update_batch(table, tombstone, to_shorten)

    def _write_leased(self, dialect: Dialect, table: str, answer: str) -> None:
        """Every write of an owner depends on the token: a late one changes nothing."""
        in_flight, kept, released, held = (
            f"'{state.value}'"
            for state in (
                RecordState.IN_FLIGHT,
                RecordState.KEPT,
                RecordState.RELEASED,
                RecordState.HELD,
            )
        )
        owned = "WHERE id = %(id)s AND lease_token = %(lease_token)s"
        no_lease = "lease_token = NULL, lease_expires_at = NULL"
        later = dialect.later("lease")
        # No step shortens a lease that was extended.
        renewed = dialect.latest("lease_expires_at", later)
        held_since = f"held_since = {dialect.since('held_since')}"
        within = dialect.within_lease
        remembered = (
            f"{within}UPDATE {table} SET effects = %(effects)s, earlier_steps ="
            " COALESCE(%(earlier_steps)s, earlier_steps),"
            f" state = %(state)s, lease_expires_at = {renewed}"
        )
        as_left = f"{owned} AND state = %(was)s"
        self.remember = f"{remembered}, held_since = NULL {as_left}"
        self.remember_held = f"{remembered}, {held_since} {as_left}"
        in_time = f"AND lease_expires_at > {dialect.now}"
        self.begin_call = f"{self.remember} {in_time}"
        self.begin_held_call = f"{self.remember_held} {in_time}"
        # Without the time: a write is held only if it ends its transaction.
        self.begin_write = f"{remembered} {as_left}{dialect.renew_returns}"
        self.finish_write = f"{remembered} {as_left}{dialect.same_transaction}"
        self.extend = f"{within}UPDATE {table} SET lease_expires_at = {later} {owned}"
        self.keep_leased = (
            f"{within}UPDATE {table} SET state = {kept}, {answer},"
            f" completed_at = {dialect.now}, {no_lease} {owned} AND state = {in_flight}"
        )
        ended = (
            f"history = {dialect.appended('history', 'note')},"
            f" last_error = %(last_error)s, {no_lease} {owned}"
        )
        self.release_leased = (
            f"{within}UPDATE {table} SET state = {released}, held_since = NULL, {ended}"
            f" AND state <> {held}"
        )
        # A held record stays held: a person has to find out.
        self.release_held = (
            f"{within}UPDATE {table} SET {held_since}, {ended} AND state = {held}"
        )
        self.forget_leased = (
            f"{within}DELETE FROM {table} {owned} AND attempts = 1 AND effects = '{{}}'"
        )


class EventStatements:
    """The statements on `ProcessedEvent`."""

    def __init__(self, dialect: Dialect) -> None:
        table = ProcessedEvent._meta.db_table
        now, retained = dialect.now, dialect.later("retention")
        received, failed, dead, reopened = (
            f"'{state.value}'"
            for state in (
                EventState.RECEIVED,
                EventState.FAILED,
                EventState.DEAD,
                EventState.REOPENED,
            )
        )
        fresh = {
            "id": "%(id)s",
            "endpoint": "%(endpoint)s",
            "source": "%(source)s",
            "account": "%(account)s",
            "event_id": "%(event_id)s",
            "event_type": "%(event_type)s",
            "object_key": "%(object_key)s",
            "is_ordered": "%(is_ordered)s",
            "body_digest": "%(body_digest)s",
            "headers": dialect.json("%(headers)s"),
            "occurred_at": "%(occurred_at)s",
            "payload": "%(payload)s",
            "attempts": "%(attempts)s",
            "uncounted_attempts": "%(uncounted)s",
            "last_error": "%(last_error)s",
            "reruns": "'[]'",
            "history": "'[]'",
            "received_at": now,
            "expires_at": retained,
        }
        self.claim = dialect.streamed(
            dialect.insert_first(table, fresh, EventState.RECEIVED)
        )
        self.store = dialect.insert_first(
            table, {**fresh, "next_attempt_at": now}, EventState.RECEIVED
        )
        # Committed in the middle of its handler: see Note [The transaction of the claim].
        lost = (
            f"(next_attempt_at IS NULL AND (state = {received}"
            f" OR state = {failed} AND payload IS NOT NULL))"
        )
        self.read = (
            "SELECT state, attempts, uncounted_attempts,"
            f" state <> {dead} AND expires_at <= {now},"
            f" next_attempt_at IS NOT NULL, {lost},"
            f" {dialect.seconds_until('received_at')} FROM {table} WHERE id = %(id)s"
        )
        self.read_newest = f"{self.read}{dialect.newest}"
        self.take_over = dialect.streamed(
            f"UPDATE {table} SET state = {received}, attempts = attempts + 1,"
            f" payload = NULL, next_attempt_at = NULL, dead_since = NULL,"
            f" expires_at = {retained}"
            f" WHERE id = %(id)s{dialect.renew_returns}"
        )
        noted = f"history = {dialect.appended('history', 'note')}"
        done = (
            f"{noted}, state = %(state)s, payload = %(payload)s, next_attempt_at = NULL,"
            f" dead_since = NULL, processed_at = {now}"
        )
        self.settle = (
            f"UPDATE {table} SET {done} WHERE {dialect.at_row} AND state = {received}"
            f"{dialect.same_transaction}"
        )
        begun = {**fresh, "history": dialect.json("%(history)s")}
        self.insert_failed = dialect.insert_first(table, begun, EventState.FAILED)
        self.insert_dead = dialect.insert_first(
            table, {**begun, "dead_since": now}, EventState.DEAD
        )
        failing = (
            f"{noted}, payload = %(payload)s, last_error = %(last_error)s,"
            " attempts = attempts + 1,"
            " uncounted_attempts = uncounted_attempts + %(uncounted)s,"
            " next_attempt_at = NULL"
        )
        may_fail = f"state IN ({failed}, {reopened})"
        # What waits in the inbox goes on waiting there, unless it is given up.
        self.note_failure = (
            f"UPDATE {table} SET state = {failed}, dead_since = NULL, {failing}"
            f" WHERE id = %(id)s AND next_attempt_at IS NULL AND {may_fail}"
        )
        self.note_death = (
            f"UPDATE {table} SET state = {dead}, dead_since = {now}, {failing}"
            f" WHERE id = %(id)s AND (next_attempt_at IS NOT NULL OR {may_fail} OR {lost})"
        )
        again = (
            *("event_type", "object_key", "is_ordered", "body_digest", "headers"),
            "occurred_at",
            *("payload", "last_error", "expires_at"),
        )
        self.store_again = (
            f"UPDATE {table} SET {', '.join(f'{name} = {fresh[name]}' for name in again)},"
            f" state = {received}, uncounted_attempts = attempts,"
            f" next_attempt_at = {now} WHERE id = %(id)s AND next_attempt_at IS NULL"
            f" AND state IN ({failed}, {reopened}){dialect.renew_returns}"
        )
        self._write_inbox(dialect, table, done, noted)
        expired = (
            f"expires_at <= {dialect.cutoff} AND next_attempt_at IS NULL"
            f" AND state <> {dead} AND NOT {lost}"
        )
        self.count_expired = f"SELECT count(*) FROM {table} WHERE {expired}"
        self.purge = dialect.delete_batch(table, expired)

    def _write_inbox(self, dialect: Dialect, table: str, done: str, noted: str) -> None:
        after = dialect.later("after")
        stored = (
            "SELECT endpoint, source, account, event_id, event_type, object_key,"
            " is_ordered, headers, payload, attempts, uncounted_attempts,"
            f" {dialect.seconds_until('received_at')}"
            f" FROM {table} WHERE id = %(id)s AND"
        )
        waiting, finished = (
            f"{stored} {condition} AND payload IS NOT NULL"
            for condition in (
                "next_attempt_at IS NOT NULL",
                "attempts = %(attempts)s AND next_attempt_at IS NULL",
            )
        )
        lock = dialect.skip_locked.replace(" SKIP LOCKED", "")
        self.take_at_once = f"{waiting}{dialect.skip_locked}"
        self.take = f"{waiting}{lock}"
        self.take_finished = f"{finished}{lock}"
        # Matches only while this attempt is the latest, by its number, and the event
        # isn't done: a processed event has no payload.
        failed = (
            f"UPDATE {table} SET {noted}, state = %(state)s,"
            " last_error = %(last_error)s, next_attempt_at ="
        )
        mine = "WHERE id = %(id)s AND attempts = %(attempts)s AND payload IS NOT NULL"
        self.retry = (
            f"{failed} {after}, uncounted_attempts = uncounted_attempts + %(uncounted)s"
            f" {mine} AND next_attempt_at IS NOT NULL"
        )
        self.bury = f"{failed} NULL, dead_since = {dialect.now} {mine}"
        self.begin_run = dialect.streamed(
            f"UPDATE {table} SET next_attempt_at = NULL WHERE id = %(id)s"
            f"{dialect.renew_returns}"
        )
        self.finish = (
            f"UPDATE {table} SET {done} WHERE id = %(id)s{dialect.same_transaction}"
        )


class SearchStatements:
    """The search for the next due event, and what it writes."""

    def __init__(self, dialect: Dialect) -> None:
        table = ProcessedEvent._meta.db_table
        after = dialect.later("after")
        is_due = f"next_attempt_at <= {dialect.statement_began}"
        due = f"FROM {table} WHERE {is_due}"
        of_endpoint = "endpoint = %(endpoint)s"
        of_object = (
            f"{of_endpoint} AND object_key = %(object_key)s"
            f" AND is_ordered = {dialect.true}"  # for the index
        )
        locked = dialect.skip_locked if dialect.locks_what_it_finds else ""
        some = f"LIMIT %(size)s OFFSET %(offset)s{locked}"
        first = f"ORDER BY next_attempt_at {some}"
        found = "SELECT id, endpoint, object_key, is_ordered"
        self.due = f"{found} {due} {first}"
        self.due_at = f"{found} {due} AND {of_endpoint} {first}"
        self.due_of_object = f"SELECT id {due} AND {of_object} {some}"
        self.lock_due = f"SELECT id FROM {table} WHERE id = %(id)s AND {is_due}{dialect.skip_locked}"
        self.first_of_object = (
            f"SELECT id, {dialect.seconds_until('next_attempt_at')} FROM {table}"
            f" WHERE next_attempt_at IS NOT NULL AND {of_object}"
            " ORDER BY received_at, id LIMIT 1"
        )
        # A number that can't grow must not end each worker that looks for work.
        one_more = "CASE WHEN attempts < 2147483647 THEN attempts + 1 ELSE attempts END"
        self.begin = (
            f"UPDATE {table} SET history = {dialect.appended('history', 'note')},"
            f" attempts = {one_more}, next_attempt_at = {after}"
            " WHERE id = %(id)s"
        )
        self.postpone = f"UPDATE {table} SET next_attempt_at = {after} WHERE id IN"
        # Only one that was never begun: the row of another may be locked for as long as
        # its handler runs.
        self.wake = (
            f"UPDATE {table} SET next_attempt_at ="
            f" {dialect.earliest('next_attempt_at', dialect.now)}"
            " WHERE id = %(id)s AND attempts = 0 AND next_attempt_at IS NOT NULL"
        )


@cache
def record_statements(dialect: Dialect) -> RecordStatements:
    return RecordStatements(dialect)


@cache
def event_statements(dialect: Dialect) -> EventStatements:
    return EventStatements(dialect)


@cache
def search_statements(dialect: Dialect) -> SearchStatements:
    return SearchStatements(dialect)
