"""``purge_idempotency_keys`` deletes what has expired and nothing else."""

import io
import uuid
from concurrent.futures import wait
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models.functions import Now

from django_idempotency.core.links import Link, LinkKind
from django_idempotency.models import IdempotencyRecord, OperationLink
from django_idempotency.store import links
from django_idempotency.store.purging import Purge
from tests.factories import IdempotencyRecordFactory, UserFactory
from tests.support.cases import cases
from tests.support.threads import TIMEOUT, crew, second_connection, start

pytestmark = pytest.mark.django_db(transaction=True)

ANN = UserFactory.build(pk=7)
HOUR = timedelta(hours=1)
TABLE = IdempotencyRecord._meta.db_table


def make(name: str = "", *, expired_for: timedelta = HOUR, **columns: Any) -> None:
    IdempotencyRecordFactory.create(
        user=ANN,
        key=name or str(uuid.uuid4()),
        expires_at=Now() - expired_for,
        **{"released": True, **columns},
    )


def make_expired(count: int) -> None:
    """Make many records in one statement."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TABLE} (id, scope, key, method, path, fingerprint, state,"  # noqa: S608
            " effects, attempts, last_error, history, replays, created_at, expires_at)"
            " SELECT gen_random_uuid(), '', n::text, 'POST', '/', '', 'released',"
            " '{}', 1, '', '[]', 0, now(), now() - n * interval '1 second'"
            " FROM generate_series(1, %s) AS n",
            [count],
        )


def purge(*arguments: str) -> str:
    out = io.StringIO()
    call_command("purge_idempotency_keys", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def closing_line(records: int) -> str:
    return f"Purged {records} idempotency records, 0 processed events.\n"


def purge_of_all() -> Purge:
    return Purge.of_records(using="default", for_at_least=timedelta(0))


def names() -> list[str]:
    return sorted(IdempotencyRecord.objects.values_list("key", flat=True))


@cases(
    "stays, columns",
    {
        "kept": (False, {"released": False}),
        "released": (False, {"state": "released"}),
        "lost": (True, {"state": "in_flight"}),
        "lapsed": (False, {"state": "in_flight", "lease_expires_at": Now() - HOUR}),
        "leased": (True, {"state": "in_flight", "lease_expires_at": Now() + HOUR}),
        "held": (True, {"state": "held"}),
        "unexpired": (True, {"expired_for": -HOUR}),
    },
)
def test_only_final_and_expired_records_go(
    stays: bool, columns: dict[str, Any]
) -> None:
    make("record", **columns)
    purge()

    assert names() == (["record"] if stays else [])


@pytest.mark.postgresql
def test_locked_records_stay_and_are_not_waited_for() -> None:
    make("locked")
    make("free")
    with second_connection() as other, other.cursor() as cursor:
        other.set_autocommit(False)
        locked = IdempotencyRecord.objects.get(key="locked").pk
        cursor.execute(f"SELECT 1 FROM {TABLE} WHERE id = %s FOR UPDATE", [locked])  # noqa: S608
        out = purge()
        other.rollback()

    assert (out, names()) == (closing_line(1), ["locked"])


@pytest.mark.postgresql
def test_links_that_are_added_anew_stay_and_are_not_waited_for() -> None:
    about = [Link(kind=LinkKind.OBJECT, value="shop.order:7")]
    row_id = uuid.uuid4()
    links.add(about, row_id, retention=HOUR, using="default")
    OperationLink.objects.update(expires_at=Now() - HOUR)
    with crew() as threads:
        with transaction.atomic():  # as in the transaction of a first call
            links.add(about, row_id, retention=HOUR, using="default")
            purging = start(threads, purge)
            done, _ = wait([purging], timeout=5)
        purging.result(TIMEOUT)
    assert done == {purging}
    assert OperationLink.objects.exists()


def test_records_renewed_or_made_between_batches_stay() -> None:  # FR-073
    for name in ("a", "b", "c"):
        make(name)
    batches = purge_of_all().batches(1)
    next(batches)
    renewed = names()[0]
    IdempotencyRecord.objects.filter(key=renewed).update(expires_at=Now() + HOUR)
    # Expired when the next batch looks, but not when the purge began.
    make("new", expired_for=timedelta(0))
    list(batches)

    assert names() == [renewed, "new"]


@pytest.mark.parametrize(
    ("older_than", "left"),
    [
        ("0s", ["live"]),
        ("30m", ["live"]),
        ("90m", ["hour", "live"]),
        ("1h30m", ["hour", "live"]),
        ("7d", ["day", "hour", "live"]),
        ("3650d", ["day", "hour", "live"]),
    ],
)
def test_older_than_lengthens_the_retention(older_than: str, left: list[str]) -> None:
    make("hour", expired_for=HOUR)
    make("day", expired_for=timedelta(days=1))
    make("live", expired_for=-HOUR)
    purge("--older-than", older_than)

    assert names() == left


@pytest.mark.parametrize(
    "argument",
    [
        "--older-than=7",
        "--older-than=99999999999999w",
        "--batch-size=0",
        "--batch-size=many",
        "--max-seconds=0",
        "--max-seconds=x",
        "--database=nowhere",
    ],
)
def test_value_that_cannot_be_meant_is_refused(argument: str) -> None:
    make()
    with pytest.raises(CommandError, match=argument.partition("=")[0]):
        purge(argument)

    assert IdempotencyRecord.objects.count() == 1


def test_dry_run_counts_and_deletes_nothing() -> None:
    make()
    make(expired_for=-HOUR)

    assert purge("--dry-run") == (
        "Would purge 1 idempotency records, 0 processed events.\n"
    )
    assert IdempotencyRecord.objects.count() == 2


@pytest.mark.parametrize(
    ("size", "batches"), [(1, [1] * 5), (2, [2, 2, 1]), (3, [3, 2]), (100, [5])]
)
def test_batches_are_as_large_as_told(size: int, batches: list[int]) -> None:
    for _ in range(5):
        make()

    assert list(purge_of_all().batches(size)) == batches
    assert not IdempotencyRecord.objects.exists()


def test_batch_size_is_that_of_the_command() -> None:
    make()
    make()

    assert purge("--batch-size", "1") == closing_line(2)


@pytest.mark.postgresql
def test_max_seconds_ends_the_purge_early() -> None:
    make_expired(20_000)
    out = purge("--batch-size", "1", "--max-seconds", "1")

    assert 0 < IdempotencyRecord.objects.count() < 20_000
    assert out == closing_line(20_000 - IdempotencyRecord.objects.count())


@pytest.mark.parametrize("disabled", [True, False])
def test_purge_needs_no_server_side_cursor(
    disabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(  # FR-076
        connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", disabled
    )
    make()

    assert purge() == closing_line(1)
    assert purge() == closing_line(0)
