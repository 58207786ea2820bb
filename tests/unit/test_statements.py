"""What the SQL may say where rows are spread over several servers."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from django_idempotency.store.dialects import DIALECTS
from django_idempotency.store.dialects.base import Batch, Dialect
from django_idempotency.store.dialects.portable import PortablePostgreSQL
from django_idempotency.store.dialects.postgresql import PostgreSQL
from django_idempotency.store.intents import intent_statements
from django_idempotency.store.links import _addition
from django_idempotency.store.statements import (
    event_statements,
    record_statements,
    search_statements,
)

FAMILIES: tuple[Any, ...] = (
    *(record_statements, event_statements),
    *(search_statements, intent_statements),
)
WRITES = ("INSERT ", "UPDATE ", "DELETE ")
# A time, or a text that depends on the session's zone.
CHANGING = re.compile(r"statement_timestamp\(\)|jsonb_build_\w+\(|to_jsonb\(|to_char\(")
BY_ID = re.compile(r" WHERE (?:[^()]* AND )?id (?:= %\(id\)s|= ANY\(%\(ids\)s\)|IN$)")
FINDING = re.compile(r"^id = \(SELECT id FROM \w+ WHERE (.*) FOR UPDATE SKIP LOCKED\)")


def statements(dialect: Dialect) -> Iterator[tuple[str, str]]:
    """Every statement of the store, by its name."""
    yield "links", _addition(dialect, 2)
    for family in FAMILIES:
        for name, found in vars(family(dialect)).items():
            if isinstance(found, Batch):
                parts = ("at_once", "found", "all_found", "one_found")
                named = {each: getattr(found, each) for each in parts}
            else:
                named = {"": found}
            for part, sql in named.items():
                if sql:
                    yield f"{family.__name__} {name} {part}", sql


def conditional(sql: str) -> Iterator[str]:
    """What stands in a CASE or a COALESCE."""
    depth, begun = 0, 0
    for word in re.finditer(r"\bCASE\b|\bEND\b", sql):
        if word[0] == "CASE":
            begun = begun if depth else word.start()
            depth += 1
        else:
            depth -= 1
            if not depth:
                yield sql[begun : word.end()]
    for word in re.finditer(r"COALESCE\((?:[^()]|\([^()]*\))*\)", sql):
        yield word[0]


def faults_of(sql: str) -> Iterator[str]:
    """Why a distributed table wouldn't take it, or what wouldn't be meant by it."""
    for word in ("clock_timestamp", "ctid", "tableoid", "set_config"):
        if word in sql:
            yield word
    is_write = sql.startswith(WRITES)
    if is_write and "RETURNING" in sql:
        yield "RETURNING"
    if is_write and any(CHANGING.search(each) for each in conditional(sql)):
        yield "what changes in a CASE"
    if is_write and re.search(r"jsonb_build|to_jsonb|::text(?! = %)", sql):
        yield "a column's text"
    locks = "FOR UPDATE" in sql
    if (sql.startswith(("UPDATE ", "DELETE ")) or locks) and not _is_by_id(sql):
        yield "not by id"


def _is_by_id(sql: str) -> bool:
    _, _, condition = sql.partition(" WHERE ")
    if inner := FINDING.match(condition):
        return bool(BY_ID.search(f" WHERE {inner[1]}"))
    return bool(BY_ID.search(sql))


def test_every_statement_is_one_that_a_distributed_table_takes() -> None:
    found = {
        name: faults
        for name, sql in statements(PortablePostgreSQL())
        if (faults := [*faults_of(sql)])
    }

    assert found == {}


def test_those_for_one_server_are_none_of_them() -> None:
    """The negative control: each fault is found where it is."""
    found = {fault for _, sql in statements(PostgreSQL()) for fault in faults_of(sql)}

    assert found >= {"clock_timestamp", "ctid", "set_config", "RETURNING", "not by id"}


@pytest.mark.parametrize("kind", DIALECTS)
def test_one_server_purges_in_one_statement(kind: str) -> None:
    names = [name for name, _ in statements(DIALECTS[kind])]

    assert {"record_statements purge at_once", "record_statements shorten at_once"} <= {
        *names
    }
    assert not [name for name in names if "found" in name]


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        (
            "UPDATE t SET a = CASE WHEN b <= statement_timestamp() THEN 1 END"
            " WHERE id = %(id)s",
            "what changes in a CASE",
        ),
        (
            "UPDATE t SET a = COALESCE(a, statement_timestamp()) WHERE id = %(id)s",
            "what changes in a CASE",
        ),
        ("UPDATE t SET a = jsonb_build_array(b) WHERE id = %(id)s", "a column's text"),
        ("DELETE FROM t WHERE key = %(key)s", "not by id"),
        ("SELECT id FROM t WHERE a FOR UPDATE", "not by id"),
    ],
)
def test_what_is_refused_is_found(sql: str, fault: str) -> None:
    assert [*faults_of(sql)] == [fault]
