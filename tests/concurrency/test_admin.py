"""Save in the admin, pressed twice, in threads: one object, and both get there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from tests.concurrency.answers import new_key
from tests.concurrency.storm import all_at_once
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.concurrency,
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.integration.saving"),
]

COPIES = 8
ADD = "/admin/testapp/order/add/"


@pytest.fixture(params=[False, True], ids=["autocommit", "ATOMIC_REQUESTS"])
def _atomic_requests(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    transactional_db: None,
) -> Iterator[None]:
    # Threads have connections of their own, with these same settings.
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", request.param)
    yield
    connection.close()


def save_at_once(form: dict[str, str]) -> list[tuple[int, str]]:
    boss = User.objects.create_superuser("boss")

    def save(number: int) -> tuple[int, str]:
        client = Client()
        client.force_login(boss)
        answer = client.post(ADD, form)
        return answer.status_code, answer.headers.get("Location", "")

    return all_at_once(COPIES, save)


@pytest.mark.usefixtures("_atomic_requests")
def test_copies_of_one_form_are_one_object() -> None:
    form = {"idempotency_key": new_key(), "amount": "3", "_continue": "yes"}

    answers = save_at_once(form)

    place = f"/admin/testapp/order/{Order.objects.get().pk}/change/"
    assert answers == [(302, place)] * COPIES
    assert LogEntry.objects.count() == 1


def test_copies_without_a_key_are_an_object_each() -> None:
    """The negative control."""
    save_at_once({"amount": "3", "_save": "Save"})

    assert Order.objects.count() == COPIES
