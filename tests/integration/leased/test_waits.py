"""A request waits once, whatever it is that it waits for, and knows what it saw."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from django_idempotency.core.decisions import InFlight
from django_idempotency.decorators import idempotent
from django_idempotency.engine import record_row
from django_idempotency.engine.leased import _Attempt
from django_idempotency.models import IdempotencyRecord
from tests.support.client import call
from tests.support.records import change
from tests.support.threads import second_connection
from tests.support.values import OPERATION

from .scene import LEASE, let_the_lease_end, scene
from .views import answer

pytestmark = pytest.mark.usefixtures("db")

LEASED = replace(OPERATION, wait=timedelta(milliseconds=100), lease=LEASE)
VERBS = {"INSERT", "SELECT", "UPDATE"}
TABLE = IdempotencyRecord._meta.db_table


class LeaseThatEnds:
    """Lets the lease end once it has been looked at; notes the verbs on records."""

    def __init__(self) -> None:
        self.verbs: list[str] = []
        self.is_over = False

    def __call__(self, execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if TABLE in sql:
            # MariaDB refuses the claim with an error, so it counts before it runs.
            self.verbs.append(next(word for word in sql.split() if word in VERBS))
        result = execute(sql, *arguments)
        if TABLE in sql and self.verbs[-1] == "SELECT" and not self.is_over:
            self.is_over = True
            let_the_lease_end()
        return result


patient = idempotent(lease=LEASE, wait=timedelta(seconds=30))(answer)


def test_copy_that_takes_over_after_a_wait_claims_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert call(patient, scene.key).word == "201"
    change(state="in_flight", lease_expires_at=Now() + timedelta(days=1))
    # As in another process, which claims first.
    monkeypatch.setattr(record_row, "answered", record_row.RecentIds(1))
    lease = LeaseThatEnds()

    with connection.execute_wrapper(lease):
        assert call(patient, scene.key).word == "201"

    assert lease.verbs[:2] == ["INSERT", "SELECT"]
    assert lease.verbs.count("INSERT") == 1


@pytest.mark.postgresql
def test_wait_for_an_uncommitted_claim_is_not_waited_again() -> None:
    """An atomic leader has it: after the wait at its row there is no more polling."""
    with second_connection() as leader, leader.cursor() as cursor:
        leader.set_autocommit(False)
        cursor.execute(
            f"INSERT INTO {TABLE} (id, scope, key, method, path, fingerprint, state,"  # noqa: S608
            " effects, attempts, last_error, history, replays, created_at, expires_at) VALUES"
            " (%s, '', '', '', '', '', 'in_flight', '{}', 1, '', '[]', 0, now(), now())",
            [LEASED.record_id],
        )
        asking = _Attempt(LEASED)

        assert asking.start() == InFlight()
        assert list(asking.pauses()) == []
        leader.rollback()


@pytest.mark.postgresql
def test_wait_for_a_lease_is_spent_in_pauses() -> None:
    _Attempt(LEASED).start()
    asking = _Attempt(LEASED)

    assert isinstance(asking.start(), InFlight)
    assert next(asking.pauses()) > 0
    assert not connection.in_atomic_block
