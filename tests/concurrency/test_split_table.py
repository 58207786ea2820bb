"""The table of records split by hash, as ``docs/howto/split-the-table.md`` does it."""

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from tests.concurrency.conftest import AT_THE_SHOP
from tests.concurrency.test_purge_under_traffic import expire, purge
from tests.support.client import new_key, post, told
from tests.support.threads import (
    TIMEOUT,
    all_at_once,
    crew,
    second_connection,
    start,
)
from tests.testapp.models import Order

pytestmark = [*AT_THE_SHOP, pytest.mark.usefixtures("split_table")]

PAGE = Path(__file__).parents[2] / "docs/howto/split-the-table.md"
TABLE = IdempotencyRecord._meta.db_table


def script(name: str) -> str:
    """Return the block of SQL under its marker on the page."""
    block = re.search(
        rf"<!-- partitions: {name} -->\n```postgresql\n(.*?)```", PAGE.read_text(), re.S
    )
    assert block is not None
    return block[1]


def asked(sql: str, parameters: list[str] | None = None) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def split_table(transactional_db: None) -> Iterator[set[tuple[object, ...]]]:
    """Yields the rights before."""
    post("/protected/", "before-the-split-000000")
    # Roles are the server's, which other tests use at the same time.
    role = f"reader_{new_key()}"
    asked(f'CREATE ROLE "{role}"')
    asked(f'GRANT SELECT, DELETE ON {TABLE} TO "{role}" WITH GRANT OPTION')
    asked(f"GRANT SELECT ON {TABLE} TO PUBLIC")
    before = rights()
    asked(f"BEGIN; {script('split')} COMMIT")
    yield before
    asked(f"BEGIN; {script('join')} COMMIT")
    assert rights() == before
    asked(
        f'REVOKE ALL ON {TABLE} FROM PUBLIC; DROP OWNED BY "{role}"; DROP ROLE "{role}"'
    )


def rights() -> set[tuple[object, ...]]:
    """What which roles may do with the table, and whether they may pass it on."""
    sql = (
        "SELECT grantee, privilege_type, is_grantable"
        " FROM pg_class, aclexplode(relacl) WHERE oid = %s::regclass"
    )
    found = set(asked(sql, [TABLE]))
    assert len(found) > 3
    return found


def fill(expired: int, live: int) -> None:
    """Make records in turns, so that each part has both kinds in the same places."""
    asked(
        f"INSERT INTO {TABLE} (id, scope, key, method, path, fingerprint, state,"  # noqa: S608
        " effects, attempts, last_error, history, replays, created_at, expires_at)"
        " SELECT gen_random_uuid(), '', n::text, 'POST', '/', '', 'released', '{}', 1,"
        " '', '[]', 0, now(), now() + CASE WHEN n % 2 = 0 THEN interval '-1 hour'"
        f" ELSE interval '1 hour' END FROM generate_series(1, {expired + live}) AS n"
    )


def test_the_table_is_split_and_holds_what_it_held() -> None:
    sql = "SELECT count(*) FROM pg_inherits WHERE inhparent = %s::regclass"
    parts = asked(sql, [TABLE])

    assert parts == [(16,)]
    assert post("/protected/", "before-the-split-000000").word == "201 replayed"


def test_roles_may_do_what_they_might(split_table: set[tuple[object, ...]]) -> None:
    assert rights() == split_table


@pytest.mark.parametrize("exists", [False, True], ids=["new", "expired"])
def test_copies_make_one_order(exists: bool) -> None:
    key = new_key()
    if exists:
        post("/protected/", key)
        expire(key)

    answers = all_at_once(8, lambda _: post("/protected/", key))

    assert told(answers) == {"201": 1, "201 replayed": 7}
    assert Order.objects.count() == 2 + exists  # one of them before the split


def test_many_keys_are_told_apart() -> None:
    keys = [new_key() for _ in range(40)]
    first = [post("/protected/", key).word for key in keys]
    again = [post("/protected/", key).word for key in keys]

    assert (set(first), set(again)) == ({"201"}, {"201 replayed"})
    assert IdempotencyRecord.objects.count() == 41


def test_purge_deletes_what_has_expired_and_nothing_in_the_same_place() -> None:
    fill(expired=400, live=400)
    twins = asked(
        f"SELECT count(*) FROM {TABLE} WHERE expires_at > now() AND ctid IN"  # noqa: S608
        f" (SELECT ctid FROM {TABLE} WHERE expires_at <= now())"
    )

    purged = purge("--batch-size", "50")

    assert twins > [(100,)]  # what a purge by place alone would take with it
    assert purged == 400
    assert IdempotencyRecord.objects.count() == 401


def test_purge_passes_over_locked_rows_of_every_part() -> None:
    """A row in the same place of another part is not what it has selected."""
    fill(expired=200, live=200)
    lock = f"SELECT 1 FROM {TABLE} WHERE expires_at < now() LIMIT 100 FOR UPDATE"  # noqa: S608
    with crew() as threads, second_connection() as other:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute(lock)
        purged = start(threads, purge, "--batch-size", "50").result(TIMEOUT)
        other.rollback()

    assert (purged, purge("--batch-size", "50")) == (100, 100)


def test_nothing_is_left_for_migrations_to_change() -> None:
    out = io.StringIO()
    call_command("makemigrations", "--check", "--dry-run", stdout=out, stderr=out)
    sql = "SELECT indexname FROM pg_indexes WHERE tablename = %s ORDER BY indexname"
    names = asked(sql, [TABLE])

    own = [f"idempotency_record_{name}" for name in ("expires", "held", "key")]
    assert names == [(name,) for name in (f"{TABLE}_pkey", *own)]
