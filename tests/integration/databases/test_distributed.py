"""The SQL for distributed tables, on one server; `tox run -e portable` shows it at length."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db.models.functions import Now

from django_idempotency.core.links import Link, LinkKind
from django_idempotency.models import OperationLink, ProcessedEvent
from django_idempotency.store import due, links
from django_idempotency.testing.factories import IdempotencyRecordFactory
from tests.factories import ProcessedEventFactory
from tests.integration.claims import (
    test_hot_path,
    test_store,
    test_tombstones,
    test_unlikely,
)
from tests.integration.upkeep import test_purge
from tests.integration.webhooks import test_inbox
from tests.integration.webhooks.receivers import scene
from tests.support.threads import second_connection

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _distributed(settings: Any) -> None:
    settings.IDEMPOTENCY_DISTRIBUTED = {"default": "citus"}
    scene.reset()


def named(test: Callable[[], None]) -> str:
    return test.__name__


@pytest.mark.parametrize(
    "show",
    [
        test_hot_path.test_first_call_takes_two_statements,
        test_hot_path.test_key_that_is_past_its_retention_is_claimed_anew,
        test_store.test_second_claim_conflicts,
        test_store.test_clock_does_not_stand_still_in_an_old_transaction,
        test_store.test_every_verb_works_on_a_row_with_nothing_optional_in_it,
        test_tombstones.test_batches_share_the_work,
        test_unlikely.test_purge_that_is_refused_says_so,
        test_purge.test_locked_records_stay_and_are_not_waited_for,
        test_purge.test_links_that_are_added_anew_stay_and_are_not_waited_for,
    ],
    ids=named,
)
def test_it_is_as_with_that_for_one_server(show: Callable[[], None]) -> None:
    show()


@pytest.mark.urls("tests.integration.webhooks.receivers")
@pytest.mark.parametrize(
    "show",
    [
        test_inbox.test_events_of_an_object_keep_their_order,
        test_inbox.test_what_waits_behind_an_earlier_event_is_met_once,
        test_inbox.test_what_has_waited_longest_comes_first,
    ],
    ids=named,
)
def test_inbox_is_as_with_that_for_one_server(show: Callable[[], None]) -> None:
    show()


def test_worker_finds_what_is_behind_all_that_others_have() -> None:
    """However many there are: handlers that run for long are due again, and locked."""
    ProcessedEventFactory.create_batch(due.PAGE + 1, endpoint="shop", due=True)
    oldest_first = ProcessedEvent.objects.order_by("next_attempt_at", "pk")
    *taken, last = oldest_first.values_list("pk", flat=True)
    with second_connection() as other, other.cursor() as cursor:
        other.set_autocommit(False)
        table = ProcessedEvent._meta.db_table
        for each in taken:
            lock = f"SELECT 1 FROM {table} WHERE id = %s FOR UPDATE"  # noqa: S608
            cursor.execute(lock, [each])
        found = due.look(using="default", free_after=HOUR)
        left = due.look(using="default", free_after=HOUR)
        other.rollback()

    assert (found.begun, left.begun) == (last, None)


def test_links_are_purged_with_the_rows_that_had_them() -> None:
    kept = IdempotencyRecordFactory.create(held=True)
    about = Link(kind=LinkKind.OBJECT, value="shop.order:7")
    gone = ProcessedEventFactory.build().pk
    for row_id in (kept.pk, gone):
        links.add([about], row_id, retention=HOUR, using="default")
    OperationLink.objects.update(expires_at=Now() - HOUR)
    purge = links.LinkPurge(using="default", for_at_least=timedelta(0))

    assert (purge.count(), sum(purge.batches(10)), purge.count()) == (1, 1, 0)
    assert OperationLink.objects.get().row_id == kept.pk
    call_command("purge_idempotency_keys", verbosity=0)


def test_of_an_object_only_the_first_event_is_due() -> None:
    """And not at all while that waits for its next attempt."""

    def stored(**columns: Any) -> Any:
        made = ProcessedEventFactory.create(endpoint="shop", due=True).pk
        columns = {"is_ordered": True, **columns}
        ProcessedEvent.objects.filter(pk=made).update(**columns)
        return made

    first, free = stored(object_key="a"), stored(object_key="a", is_ordered=False)
    stored(object_key="a")
    stored(object_key="b", next_attempt_at=Now() + HOUR)
    stored(object_key="b")

    found = ProcessedEvent.objects.due().values_list("pk", flat=True)
    assert set(found) == {first, free}
