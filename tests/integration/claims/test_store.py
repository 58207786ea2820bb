"""The statements: what they write, and how many of them there are."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, models, transaction
from django.db.models.functions import Now

from django_idempotency.core.operations import Operation
from django_idempotency.exceptions import ClaimConflict
from django_idempotency.models import IdempotencyRecord
from django_idempotency.store import records as store
from django_idempotency.store import rows
from tests.support.records import change, record
from tests.support.threads import second_connection
from tests.support.values import ANSWER, OPERATION

pytestmark = pytest.mark.django_db(transaction=True)

NO_WAIT = timedelta(0)


def claim(operation: Operation = OPERATION) -> rows.Claim:
    claimed = store.claim(operation, wait=NO_WAIT)
    rows.mark(claimed)
    return claimed


def keep(operation: Operation = OPERATION) -> None:
    with transaction.atomic():
        store.keep(claim(operation), ANSWER)


def test_second_claim_conflicts() -> None:
    keep()

    with pytest.raises(ClaimConflict), transaction.atomic():
        claim()


def test_read_of_an_absent_record_is_nothing() -> None:
    assert store.read(uuid.uuid4(), using="default") is None


def test_kept_answer_is_read_back_and_expires_by_the_databases_clock() -> None:
    keep()
    before = store.read(OPERATION.record_id, using="default")
    change(expires_at=Now() - timedelta(milliseconds=10))
    after = store.read(OPERATION.record_id, using="default")

    assert before is not None
    assert after is not None
    assert (before.answer, before.expired, after.expired) == (ANSWER, False, True)


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


def test_keep_refuses_a_claim_that_is_kept_already() -> None:
    with transaction.atomic():
        claimed = claim()
        store.keep(claimed, ANSWER)
        rows.mark(claimed)
        with pytest.raises(RuntimeError):
            store.keep(claimed, ANSWER)


@pytest.mark.parametrize("state", ["in_flight", "kept", "held"])
def test_failure_is_noted_on_no_record_but_a_released_one(state: str) -> None:
    keep()
    change(state=state)
    store.note_failure(OPERATION, "E")

    assert (record().state, record().last_error) == (state, "")


def test_failure_of_any_length_is_noted() -> None:
    store.note_failure(OPERATION, "E" * 1000)

    assert record().last_error == "E" * 255


@pytest.mark.postgresql
def test_replay_of_a_locked_record_is_not_counted() -> None:
    keep()
    table = IdempotencyRecord._meta.db_table
    with second_connection() as other, other.cursor() as cursor:
        other.set_autocommit(False)
        cursor.execute(f"SELECT 1 FROM {table} FOR UPDATE")  # noqa: S608
        store.count_replay(OPERATION)
        other.rollback()

    assert record().replays == 0


@pytest.mark.postgresql
def test_updates_of_a_record_stay_on_its_page() -> None:
    """Note [Which columns are indexed]: keeping and counting touch no index."""
    hot_before, all_before = updates_so_far()
    for number in range(200):
        operation = replace(OPERATION, key=str(number))
        keep(operation)
        store.count_replay(operation)
    hot_after, all_after = updates_so_far()

    # What sessions of earlier tests have done may be counted late.
    assert all_after - all_before >= 400
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

    assert record().path == rows.storable(f"/{text}/")


def test_longest_key_and_scope_fit() -> None:
    scope = replace(OPERATION.scope, principal="p" * 5000, path="/" + "x" * 50_000)
    keep(replace(OPERATION, key="k" * 255, scope=scope))

    assert record().key == "k" * 255


@pytest.mark.parametrize(
    ("columns", "constraint"),
    [
        ({"response_status": None}, "kept_has_answer"),
        ({"state": "done"}, "idempotency_record_state"),
    ],
    ids=["kept-without-an-answer", "unknown-state"],
)
def test_database_refuses_a_record_that_cannot_be(
    columns: dict[str, Any], constraint: str
) -> None:
    keep()

    with pytest.raises(IntegrityError, match=constraint):
        change(**columns)


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
        rows.lock(IdempotencyRecord, OPERATION.record_id, using="default", wait=NO_WAIT)


def test_every_verb_works_on_a_row_with_nothing_optional_in_it() -> None:
    keep()  # FR-078
    change(
        state="released",
        lease_token=None,
        lease_expires_at=None,
        completed_at=None,
        last_replayed_at=None,
    )
    with transaction.atomic():
        rows.lock(IdempotencyRecord, OPERATION.record_id, using="default", wait=NO_WAIT)
        row = store.read(OPERATION.record_id, using="default")
        assert row is not None
        renewed = store.renew(OPERATION, row.location)
        rows.mark(renewed)
        store.keep(renewed, ANSWER)
    store.count_replay(OPERATION)

    assert record().state == "kept"
