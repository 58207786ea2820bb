"""A task of Celery, by a real worker, that its queue delivers more than once."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.signals import setup_logging
from django.db import connections

from django_idempotency.exceptions import OperationInFlight
from django_idempotency.models import IdempotencyRecord
from django_idempotency.tasks import idempotent_task
from tests.testapp.models import Order

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]

app = Celery("shop", broker="memory://", backend="cache+memory://")
app.conf.update(
    task_acks_late=True,
    broker_connection_retry_on_startup=True,
)


@setup_logging.connect  # type: ignore[untyped-decorator]
def leave_logging_alone(**more: Any) -> None:
    """Else a worker would keep warnings from all tests that follow in this process."""


failures: list[Exception] = []
"""What the next deliveries raise."""
has_begun, is_deferred, may_end = (threading.Event() for _ in range(3))


@app.task(bind=True, acks_late=True)  # type: ignore[untyped-decorator]
def send_receipt(self: Any, number: int) -> Any:
    try:
        return _send_receipt(number)
    except OperationInFlight as error:
        is_deferred.set()
        raise self.retry(exc=error, countdown=0.1) from error
    finally:
        connections.close_all()


@idempotent_task(key=lambda number: f"receipt:{number}", copies="raise")
def _send_receipt(number: int) -> Any:
    Order.objects.create()
    has_begun.set()
    may_end.wait(30)
    if failures:
        raise failures.pop()
    return {"receipt": number}


@pytest.fixture(autouse=True)
def _as_at_first() -> None:
    failures.clear()
    has_begun.clear()
    is_deferred.clear()
    may_end.set()


@pytest.fixture(autouse=True, scope="module")
def _worker(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    worker = start_worker(app, pool="threads", concurrency=2, perform_ping_check=False)
    with ExitStack() as stack:
        # At its start Celery looks at the models, and so at the database's version.
        with django_db_blocker.unblock():
            stack.enter_context(worker)
        yield


def test_delivery_again_gets_the_first_result() -> None:
    results = [send_receipt.delay(1).get(timeout=30) for _ in range(3)]

    assert results == [{"receipt": 1}] * 3
    assert Order.objects.count() == 1


def test_copies_at_once_run_once() -> None:
    """FR-028: the second copy is deferred while the first one runs."""
    may_end.clear()
    first = send_receipt.delay(2)
    assert has_begun.wait(30)
    second = send_receipt.delay(2)
    assert is_deferred.wait(30)
    may_end.set()

    assert [each.get(timeout=30) for each in (first, second)] == [{"receipt": 2}] * 2
    assert Order.objects.count() == 1


def test_copy_is_not_lost_if_the_first_one_fails() -> None:
    """FR-028."""
    failures.append(ZeroDivisionError())
    first = send_receipt.delay(3)
    with pytest.raises(ZeroDivisionError):
        first.get(timeout=30)

    assert send_receipt.delay(3).get(timeout=30) == {"receipt": 3}
    assert Order.objects.count() == 1
    assert IdempotencyRecord.objects.get().attempts == 2
