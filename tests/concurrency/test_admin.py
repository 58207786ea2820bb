"""Save in the admin, pressed twice, in threads: one object, and both get there."""

from collections.abc import Iterator

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from tests.support.cases import cases
from tests.support.client import new_key
from tests.support.threads import all_at_once
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.integration.admin.saving"),
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


@pytest.mark.usefixtures("_atomic_requests")
@cases(
    "key, objects",
    {"one form": ({"idempotency_key": new_key()}, 1), "control: no key": ({}, COPIES)},
)
def test_copies_of_one_form_are_one_object(key: dict[str, str], objects: int) -> None:
    boss = User.objects.create_superuser("boss")

    def save(number: int) -> tuple[int, str]:
        client = Client()
        client.force_login(boss)
        answer = client.post(ADD, {**key, "amount": "3", "_continue": "yes"})
        return answer.status_code, answer.headers.get("Location", "")

    answers = all_at_once(COPIES, save)

    saved = Order.objects.values_list("pk", flat=True)
    assert len(answers) == COPIES
    assert set(answers) == {(302, f"/admin/testapp/order/{pk}/change/") for pk in saved}
    assert (len(saved), LogEntry.objects.count()) == (objects, objects)
