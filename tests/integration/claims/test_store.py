"""The statements: what they write, and how many of them there are."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, models, transaction
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from django_idempotency import store
from django_idempotency.exceptions import ClaimConflict
from django_idempotency.fingerprints import fingerprint_of
from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations import Operation, Scope, StoredAnswer
from tests.concurrency.storm import second_connection
from tests.integration.databases import without_limits

pytestmark = pytest.mark.django_db(transaction=True)

OPERATION = Operation(
    scope=Scope(principal="auth.User:1", method="POST", path="/orders/"),
    key="k",
    fingerprint=fingerprint_of(b"payload"),
    wait=timedelta(0),
    retention=timedelta(hours=1),
)
ANSWER = StoredAnswer(status=201, headers=(("X-Order", "1"),), body=b"\x00\xff")
NO_WAIT = timedelta(0)


def claim(operation: Operation = OPERATION) -> store.Claim:
    return store.claim(operation, using="default", wait=NO_WAIT)


def keep(operation: Operation = OPERATION) -> None:
    with transaction.atomic():
        store.keep(claim(operation), ANSWER, using="default")


def record() -> IdempotencyRecord:
    return IdempotencyRecord.objects.get()


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the first words of what is sent, without BEGIN and COMMIT."""
    words: list[str] = []
    with CaptureQueriesContext(connection) as captured:
        yield words
    sent = [without_limits(query["sql"]) for query in captured.captured_queries]
    words += [sql.split()[0] for sql in sent]
    words[:] = [word for word in words if word not in {"BEGIN", "COMMIT", "PRAGMA"}]


def test_claim_writes_who_wants_what_where() -> None:
    with transaction.atomic():
        claim()
        found = record()

    assert (found.id, found.scope, found.key, found.method, found.path) == (
        OPERATION.record_id,
        "auth.User:1|POST|/orders/",
        "k",
        "POST",
        "/orders/",
    )


def test_claim_is_in_flight_until_it_is_kept() -> None:
    with transaction.atomic():
        claim()

        assert record().state == "in_flight"


def test_claim_is_one_statement() -> None:
    with transaction.atomic(), statements() as sent:
        claim()

    assert sent == ["INSERT"]


def test_keep_is_one_statement() -> None:
    with transaction.atomic(), statements() as sent:
        store.keep(claim(), ANSWER, using="default")

    assert sent == ["INSERT", "UPDATE"]


def test_second_claim_conflicts() -> None:
    keep()

    with pytest.raises(ClaimConflict), transaction.atomic():
        claim()


def test_kept_answer_is_read_back() -> None:
    keep()
    row = store.read(OPERATION.record_id, using="default")

    assert row is not None
    assert row.answer == ANSWER


def test_read_of_an_absent_record_is_nothing() -> None:
    assert store.read(uuid.uuid4(), using="default") is None


def test_record_is_not_expired_before_its_time() -> None:
    keep()
    row = store.read(OPERATION.record_id, using="default")

    assert row is not None
    assert not row.expired


def test_record_expires_by_the_databases_clock() -> None:
    keep()
    IdempotencyRecord.objects.update(expires_at=Now() - timedelta(milliseconds=10))
    row = store.read(OPERATION.record_id, using="default")

    assert row is not None
    assert row.expired


@pytest.mark.postgresql
def test_clock_does_not_stand_still_in_an_old_transaction() -> None:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT now(), pg_sleep(0.05)")
            began = cursor.fetchone()[0]
        claim()

        assert record().created_at - began >= timedelta(milliseconds=50)


def test_times_are_written_as_django_reads_them() -> None:
    keep()

    assert abs(record().created_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_retention_is_counted_from_the_claim() -> None:
    keep()

    assert abs(
        record().expires_at - record().created_at - OPERATION.retention
    ) < timedelta(minutes=1)


def test_keep_refuses_a_claim_whose_record_is_gone() -> None:
    with transaction.atomic():
        claimed = claim()
        IdempotencyRecord.objects.all().delete()
        with pytest.raises(RuntimeError, match="record is gone"):
            store.keep(claimed, ANSWER, using="default")


def test_keep_refuses_a_claim_that_is_kept_already() -> None:
    with transaction.atomic():
        claimed = claim()
        store.keep(claimed, ANSWER, using="default")
        with pytest.raises(RuntimeError):
            store.keep(claimed, ANSWER, using="default")


@pytest.mark.parametrize("state", ["in_flight", "kept", "held"])
def test_failure_is_noted_on_no_record_but_a_released_one(state: str) -> None:
    keep()
    IdempotencyRecord.objects.update(state=state)
    store.note_failure(OPERATION, "E", using="default")

    assert (record().state, record().last_error) == (state, "")


def test_failure_of_any_length_is_noted() -> None:
    store.note_failure(OPERATION, "E" * 1000, using="default")

    assert record().last_error == "E" * 255


def test_replay_is_counted() -> None:
    keep()
    for _ in range(2):
        store.count_replay(OPERATION.record_id, using="default")

    assert record().replays == 2
    assert record().last_replayed_at is not None


@pytest.mark.postgresql
def test_replay_of_a_locked_record_is_not_counted() -> None:
    keep()
    table = IdempotencyRecord._meta.db_table
    with second_connection() as other, other.cursor() as cursor:
        other.set_autocommit(False)
        cursor.execute(f"SELECT 1 FROM {table} FOR UPDATE")  # noqa: S608
        store.count_replay(OPERATION.record_id, using="default")
        other.rollback()

    assert record().replays == 0


@pytest.mark.postgresql
def test_updates_of_a_record_stay_on_its_page() -> None:
    """Note [Which columns are indexed]: keeping and counting touch no index."""
    hot_before, all_before = updates_so_far()
    for number in range(200):
        operation = replace(OPERATION, key=str(number))
        keep(operation)
        store.count_replay(operation.record_id, using="default")
    hot_after, all_after = updates_so_far()

    assert all_after - all_before == 400
    assert (hot_after - hot_before) / (all_after - all_before) > 0.9


def updates_so_far() -> tuple[int, int]:
    """Of all tests on this database: those within a page, and all."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT n_tup_hot_upd, n_tup_upd FROM pg_stat_user_tables"
            " WHERE relname = %s",
            [IdempotencyRecord._meta.db_table],
        )
        hot, total = cursor.fetchone()
        return hot, total


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b", "ä🙂"])
def test_any_path_can_be_stored(text: str) -> None:
    operation = replace(OPERATION, scope=replace(OPERATION.scope, path=f"/{text}/"))
    keep(operation)

    assert record().path == store.storable(f"/{text}/")


def test_longest_key_and_scope_fit() -> None:
    scope = replace(OPERATION.scope, principal="p" * 5000, path="/" + "x" * 50_000)
    keep(replace(OPERATION, key="k" * 255, scope=scope))

    assert record().key == "k" * 255


def test_database_refuses_a_kept_record_without_an_answer() -> None:
    keep()

    with pytest.raises(IntegrityError, match="kept_has_answer"):
        IdempotencyRecord.objects.update(response_status=None)


def test_database_refuses_a_state_that_does_not_exist() -> None:
    keep()

    with pytest.raises(IntegrityError, match="idempotency_record_state"):
        IdempotencyRecord.objects.update(state="done")


class Joining(models.Manager[IdempotencyRecord]):
    """A project's manager that could not be locked (FR-078)."""

    def get_queryset(self) -> models.QuerySet[IdempotencyRecord]:
        raise AssertionError("the package asks its own manager")


def test_locking_does_not_ask_the_projects_manager(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manager = Joining()
    manager.model = IdempotencyRecord
    monkeypatch.setattr(IdempotencyRecord._meta, "default_manager", manager)
    keep()
    with transaction.atomic():
        store.lock(
            IdempotencyRecord, OPERATION.record_id, using="default", wait=NO_WAIT
        )


def test_every_verb_works_on_a_row_with_nothing_optional_in_it() -> None:
    empty: dict[str, Any] = {
        "lease_token": None,
        "lease_expires_at": None,
        "completed_at": None,
        "last_replayed_at": None,
    }
    keep()  # FR-078
    IdempotencyRecord.objects.update(state="released", **empty)
    with transaction.atomic():
        store.lock(
            IdempotencyRecord, OPERATION.record_id, using="default", wait=NO_WAIT
        )
        row = store.read(OPERATION.record_id, using="default")
        assert row is not None
        renewed = store.renew(OPERATION, row.location, using="default")
        store.keep(renewed, ANSWER, using="default")
    store.count_replay(OPERATION.record_id, using="default")

    assert record().state == "kept"
