"""A request waits once, whatever it is that it waits for."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection

from django_idempotency.decisions import InFlight
from django_idempotency.fingerprints import fingerprint_of
from django_idempotency.leasing import _Leasing
from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations import Operation, Scope
from tests.concurrency.storm import second_connection

from .scene import LEASE

pytestmark = [pytest.mark.usefixtures("db"), pytest.mark.postgresql]

OPERATION = Operation(
    scope=Scope(principal="auth.User:1", method="POST", path="/orders/"),
    key="k",
    fingerprint=fingerprint_of(b"payload"),
    wait=timedelta(milliseconds=100),
    retention=timedelta(hours=1),
    lease=LEASE,
)


def test_wait_for_an_uncommitted_claim_is_not_waited_again() -> None:
    """An atomic leader has it: after the wait at its row there is no more polling."""
    table = IdempotencyRecord._meta.db_table
    with second_connection() as leader, leader.cursor() as cursor:
        leader.set_autocommit(False)
        cursor.execute(
            f"INSERT INTO {table} (id, scope, key, method, path, fingerprint, state,"  # noqa: S608
            " effects, attempts, last_error, replays, created_at, expires_at) VALUES"
            " (%s, '', '', '', '', '', 'in_flight', '{}', 1, '', 0, now(), now())",
            [OPERATION.record_id],
        )
        asking = _Leasing(OPERATION, "default")

        assert asking.start() == InFlight()
        assert list(asking.pauses()) == []
        leader.rollback()


def test_wait_for_a_lease_is_spent_in_pauses() -> None:
    _Leasing(OPERATION, "default").start()
    asking = _Leasing(OPERATION, "default")

    assert isinstance(asking.start(), InFlight)
    assert next(asking.pauses()) > 0
    assert not connection.in_atomic_block
