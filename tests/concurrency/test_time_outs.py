"""The connection's own time-outs are in force wherever the project's code runs."""

import time

import pytest
from django.db import connection, transaction

from django_idempotency.engine.claiming import FIRST_WAIT
from django_idempotency.models import IdempotencyRecord
from tests.concurrency.conftest import AT_THE_SHOP, Connect
from tests.concurrency.leader import leading
from tests.concurrency.shop import inner, refused, scene
from tests.support.client import call, new_key, post
from tests.support.records import change, expire
from tests.support.threads import (
    TIMEOUT,
    crew,
    second_connection,
    start,
)

pytestmark = [*AT_THE_SHOP, pytest.mark.direct]


OWN = "12345ms 1min"


@pytest.fixture(autouse=True)
def _of_the_project(connect_with: Connect) -> None:
    connect_with(options="-c lock_timeout=12345ms -c statement_timeout=1min")


def limits() -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
        )
        return " ".join(cursor.fetchone())


@pytest.mark.parametrize("before", ["nothing", "expired", "released"])
def test_in_the_view_of_a_call(before: str) -> None:
    key = new_key()
    if before == "released":
        scene.failures.append(ValueError())
    if before != "nothing":
        post("/protected/", key)
    if before == "expired":
        expire()

    assert post("/protected/", key).json["limits"] == OWN


@pytest.mark.parametrize("exists", [False, True], ids=["new", "released"])
def test_in_the_view_of_a_copy_that_took_over(exists: bool) -> None:
    key = new_key()
    scene.failures.extend(ValueError() for _ in range(1 + exists))
    if exists:
        post("/protected/", key)
    with leading("/protected/", key) as leader:
        (copy,) = leader.copies_that_wait(1)
        time.sleep(2 * FIRST_WAIT.total_seconds())  # so that it waits for the rest, too
        assert leader.go_on().status == 500

    assert copy.result(TIMEOUT).json["limits"] == OWN


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("new", "201"),
        ("replay", "201 replayed"),
        ("expired", "201"),
        ("released", "201"),
        ("mismatch", "422 key-reused"),
        ("unfinished", "409 in-flight"),
    ],
)
def test_in_a_foreign_transaction_after_the_protected_view(
    kind: str, word: str
) -> None:
    key = new_key()
    if kind != "new":
        call(refused if kind == "released" else inner, key)
    if kind == "expired":
        expire()
    elif kind == "unfinished":
        change(state="in_flight")

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '6789ms'")
        cursor.execute("SET LOCAL statement_timeout = '54321ms'")
        told = call(inner, key, amount=2 if kind == "mismatch" else 1).word
        found = limits()

    assert (told, found) == (word, "6789ms 54321ms")


def test_in_a_foreign_transaction_after_a_wait_that_is_over() -> None:
    def inside(key: str) -> tuple[str, str]:
        with transaction.atomic():
            return post("/hasty/", key).word, limits()

    with leading("/hasty/") as leader:
        found = start(leader.threads, inside, leader.key).result(TIMEOUT)

    assert found == ("409 in-flight", OWN)


def test_on_the_connection_after_the_request() -> None:
    """A first call, its repeat, and a failed attempt."""
    key = new_key()
    for view, each in ((inner, key), (inner, key), (refused, new_key())):
        call(view, each)
        assert limits() == OWN


def test_bounds_the_wait_for_a_table_that_is_being_altered(
    connect_with: Connect,
) -> None:
    """As `ALTER TABLE` does while it waits, or is at work: nothing has been done."""
    connect_with(options="-c lock_timeout=100ms")
    table = IdempotencyRecord._meta.db_table
    with second_connection() as session:
        session.set_autocommit(False)
        with session.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        with crew() as threads:
            refused_meanwhile = start(threads, post, "/protected/", new_key())
            word = refused_meanwhile.result(TIMEOUT).word
        session.rollback()

    assert (word, scene.calls) == ("409 in-flight", 0)
    assert post("/protected/", new_key()).word == "201"
