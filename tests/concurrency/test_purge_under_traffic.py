"""A purge beside requests and beside another purge."""

import io
import re
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.models.functions import Now
from django.utils import timezone

from django_idempotency.models import IdempotencyRecord
from tests.concurrency.conftest import AT_THE_SHOP, Connect
from tests.concurrency.leader import leading
from tests.support.client import Answer, new_key, post, told
from tests.support.threads import all_at_once
from tests.testapp.models import Order

pytestmark = AT_THE_SHOP


def purge(*arguments: str) -> int:
    out = io.StringIO()
    call_command("purge_idempotency_keys", *arguments, stdout=out, stderr=out)
    match = re.search(r"Purged (\d+)", out.getvalue())
    assert match is not None
    return int(match[1])


def expire(key: str) -> None:
    past = Now() - timedelta(seconds=1)
    IdempotencyRecord.objects.filter(key=key).update(expires_at=past)


@pytest.mark.parametrize("exists", [False, True], ids=["first call", "renewal"])
def test_record_of_a_running_request_stays(exists: bool) -> None:
    """FR-072."""
    key = new_key()
    if exists:
        post("/protected/", key)
        expire(key)
    with leading("/protected/", key) as leader:
        purged = purge()
        assert leader.go_on().word == "201"

    assert (purged, post("/protected/", key).word) == (0, "201 replayed")
    assert Order.objects.count() == 1 + exists


LEVELS = [
    IsolationLevel.READ_COMMITTED,
    IsolationLevel.REPEATABLE_READ,
    IsolationLevel.SERIALIZABLE,
]


AT_EACH_LEVEL = pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)


def make_expired(count: int) -> None:
    now = timezone.now()
    IdempotencyRecord.objects.bulk_create(
        IdempotencyRecord(
            id=uuid.uuid4(),
            state="released",
            created_at=now,
            expires_at=now - timedelta(seconds=number + 1),
        )
        for number in range(count)
    )


def require_two_purges_to_share(count: int) -> None:
    make_expired(count)

    counts = all_at_once(2, lambda _: purge("--batch-size", "50"))

    assert sum(counts) == count
    assert not IdempotencyRecord.objects.exists()


@AT_EACH_LEVEL
def test_two_purges_share_the_work(
    connect_with: Connect, level: IsolationLevel
) -> None:
    connect_with(isolation_level=level)
    require_two_purges_to_share(2000)


def answered(key: str) -> Answer:
    """Send it again after a 500, as clients do: above READ COMMITTED the view's own
    statements may fail to be serialized with those of other requests."""
    answer = post("/protected/", key)
    return answered(key) if answer.status == 500 else answer


def words_during_a_purge(
    count: int, send: Callable[[str], Answer], begin: Callable[[], None]
) -> dict[str, int]:
    """What first calls, repeats and renewals are told of what is just being purged."""
    keys = [new_key() for _ in range(40)]
    for key in keys:
        send(key)
    IdempotencyRecord.objects.update(expires_at=Now() - timedelta(hours=1))
    make_expired(count)
    begin()

    def act(number: int) -> list[Answer]:
        if number == 3:
            purge("--batch-size", "50")
            return []
        return [send(key) for key in keys[number::3] for _ in range(2)]

    return told(answer for each in all_at_once(4, act) for answer in each)


@AT_EACH_LEVEL
def test_requests_go_on_during_a_purge(
    connect_with: Connect, level: IsolationLevel
) -> None:
    """FR-071."""
    words = words_during_a_purge(
        2000, answered, lambda: connect_with(isolation_level=level)
    )

    assert words == {"201": 40, "201 replayed": 40}
    assert Order.objects.count() == 80
