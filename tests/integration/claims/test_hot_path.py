"""What is asked of the database on the hot paths: few statements, each of one row."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.http import HttpRequest, HttpResponse

from django_idempotency.decorators import idempotent
from django_idempotency.engine import record_row
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.store.dialects import dialect_of
from django_idempotency.store.statements import event_statements, record_statements
from tests.support.client import call, new_key
from tests.support.databases import without_limits
from tests.support.records import change, expire, record

pytestmark = pytest.mark.django_db(transaction=True)

TABLES = {IdempotencyRecord: record_statements, ProcessedEvent: event_statements}
# What reads or deletes many rows is no request's business.
OF_MANY_ROWS = {"count_expired", "count_to_shorten", "purge", "shorten", "due"}


@idempotent
def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=201)


def asked(key: str) -> tuple[str, list[str]]:
    """Send a request; return its answer in a word, and the verbs of our statements."""
    table = IdempotencyRecord._meta.db_table
    verbs = []

    # MariaDB's backend forgets what was refused, where Django captures queries.
    def execute_noted(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if table in sql:
            verbs.append(without_limits(sql).split(" ", 1)[0])
        return execute(sql, *arguments)

    with connection.execute_wrapper(execute_noted):
        word = call(view, key).word
    return word, verbs


def test_first_call_takes_two_statements() -> None:
    assert asked(new_key()) == ("201", ["INSERT", "UPDATE"])


def test_repeat_that_this_process_has_answered_takes_one_statement() -> None:
    key = new_key()
    asked(key)

    assert asked(key) == ("201 replayed", ["SELECT"])


def test_repeat_that_another_process_has_answered_takes_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = new_key()
    asked(key)
    monkeypatch.setattr(record_row, "answered", record_row.RecentIds(1000))

    assert asked(key) == ("201 replayed", ["INSERT", "SELECT"])
    assert asked(key) == ("201 replayed", ["SELECT"])


def test_answer_that_was_purged_meanwhile_is_no_hindrance() -> None:
    """What the process remembers is a guess, and no answer comes from it."""
    key = new_key()
    asked(key)
    IdempotencyRecord.objects.all().delete()

    assert asked(key) == ("201", ["SELECT", "INSERT", "UPDATE"])


def test_key_that_is_past_its_retention_is_claimed_anew() -> None:
    """As if it had never been used: its row is deleted, and nothing of it is left."""
    key = new_key()
    asked(key)
    change(replays=7)
    expire()
    before = record().created_at

    word, verbs = asked(key)

    # Looked at, locked and looked at again.
    assert (word, verbs) == ("201", [*["SELECT"] * 3, "DELETE", "INSERT", "UPDATE"])
    assert (record().attempts, record().replays) == (1, 0)
    assert record().created_at > before


def test_memory_of_answers_is_bounded() -> None:
    recent = record_row.RecentIds(10)
    ids = [uuid.uuid4() for _ in range(100)]
    for each in ids:
        recent.add(each)

    assert ids[-1] in recent
    assert 10 <= sum(each in recent for each in ids) <= 20


@pytest.mark.parametrize("model", TABLES, ids=lambda model: model.__name__)
def test_statements_of_requests_touch_one_row_by_its_id(
    model: type[IdempotencyRecord | ProcessedEvent],
) -> None:
    """So that a table that is distributed by id stays possible, and indexes small."""
    table = model._meta.db_table
    statements = vars(TABLES[model](dialect_of(connections["default"])))
    for name, sql in statements.items():
        if name in OF_MANY_ROWS:
            continue
        sent = without_limits(sql)
        assert sent.startswith(f"INSERT INTO {table} ") or _is_by_id(sent), name
        assert "JOIN" not in sql, name


def _is_by_id(sql: str) -> bool:
    _, _, condition = sql.rpartition(" WHERE ")
    # What follows an AND can't make more rows of the one.
    is_first = condition.startswith("id = %(id)s")
    return "id = %(id)s" in condition and (is_first or " OR " not in condition)


@pytest.mark.postgresql
def test_plans_of_the_hot_paths_read_one_row() -> None:
    """PostgreSQL's own word, on a table that is worth an index."""
    statements = record_statements(dialect_of(connection))
    parameters: dict[str, Any] = {
        "id": uuid.uuid4(),
        "location": "(0,1)",
        "transaction": "1",
        "response_status": 201,
        "response_headers": "[]",
        "response_body": b"",
        "note": "{}",
        "lease": 60,
        "lease_token": uuid.uuid4(),
    }
    plans = {}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for name in ("read", "read_locked", "keep", "count_replay", "extend"):
            cursor.execute(f"EXPLAIN {getattr(statements, name)}", parameters)
            plans[name] = "\n".join(row[0] for row in cursor.fetchall())

    for name, plan in plans.items():
        assert "Seq Scan" not in plan, (name, plan)
        assert "pkey" in plan or "Tid Scan" in plan, (name, plan)
