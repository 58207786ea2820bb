"""A task of Django's own, from 6.0 on."""

from typing import Any

import pytest
from django.tasks import TaskResultStatus, task
from django.test import override_settings

from django_idempotency.tasks import idempotent_task
from tests.integration.tasks.test_pages import TASKS, Site, site
from tests.support import pages
from tests.support.records import states
from tests.testapp.models import Order

__all__ = ["site"]

pytestmark = pytest.mark.django_db(transaction=True)


@task
@idempotent_task(key=lambda number: f"receipt:{number}")
def send_receipt(number: int) -> Any:
    return {"order": Order.objects.create().pk}


@override_settings(
    TASKS={"default": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}}
)
def test_task_that_is_enqueued_twice_runs_once() -> None:
    results = [send_receipt.enqueue(1) for _ in range(2)]

    assert {result.status for result in results} == {TaskResultStatus.SUCCESSFUL}
    assert len({str(result.return_value) for result in results}) == 1
    assert Order.objects.count() == 1


def test_task_of_the_page_is_enqueued_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Django looks such a function up by its module.
    monkeypatch.setattr(pages, "send_receipt", None, raising=False)
    copied = pages.run(pages.block(TASKS, "import task\n"), site.names)["send_receipt"]

    assert [copied.call(order) for order in (1, 1, 2)] == [None] * 3
    assert states() == ["kept"] * 2
