"""The health check: who may read it, what it says, and when it fails."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import OperationalError, connection
from django.test import Client
from django.urls import include, path
from django.utils import timezone

from django_idempotency.store import hours
from tests.factories import IdempotencyRecordFactory, ProcessedEventFactory
from tests.support.cases import cases

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

urlpatterns = [
    path("idempotency/health/", include("django_idempotency.health.urls")),
]
URL = "/idempotency/health/"
TOKEN = "a-token-of-the-monitor"  # noqa: S105 - of these tests
PAGE = Path(__file__).resolve().parents[3] / "docs" / "howto" / "monitor.md"


def person(*permissions: str, is_staff: bool = True) -> Client:
    user = User.objects.create_user("ann", is_staff=is_staff)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def program(header: str) -> Client:
    return Client(headers={"Authorization": header})


BOTH = ("view_idempotencyrecord", "view_processedevent")


@cases(
    "status, token, make",
    {
        "nobody": (403, None, Client),
        "a guest where there is a token": (403, TOKEN, Client),
        "token": (200, TOKEN, lambda: program(f"Bearer {TOKEN}")),
        "token in small letters": (200, TOKEN, lambda: program(f"bearer {TOKEN}")),
        "another token": (403, TOKEN, lambda: program("Bearer of-another-one")),
        "its beginning": (403, TOKEN, lambda: program(f"Bearer {TOKEN[:-1]}")),
        "another scheme": (403, TOKEN, lambda: program(f"Basic {TOKEN}")),
        "no token is set": (403, None, lambda: program("Bearer None")),
        "an empty one is set": (403, "", lambda: program("Bearer ")),
        "not text": (403, TOKEN, lambda: program("Bearer \xff")),
        "staff that may view both": (200, None, lambda: person(*BOTH)),
        "staff that may view one": (403, None, lambda: person(BOTH[0])),
        "a customer": (403, None, lambda: person(*BOTH, is_staff=False)),
    },
)
def test_only_who_may_reads_it(
    status: int, token: str | None, make: Any, settings: Any
) -> None:
    settings.IDEMPOTENCY_HEALTH_TOKEN = token
    response = make().get(URL)

    assert response.status_code == status
    assert "no-store" in response["Cache-Control"]
    assert ("waits" in response.json()) == (status == 200)


@pytest.fixture
def monitor(settings: Any) -> Client:
    settings.IDEMPOTENCY_HEALTH_TOKEN = TOKEN
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    return program(f"Bearer {TOKEN}")


def test_it_says_what_waits_and_what_was_stopped(monitor: Client) -> None:
    IdempotencyRecordFactory.create(held=True, key="x" * 21)
    hour = int(timezone.now().timestamp()) // 3600
    for outcome, count, more in (
        ("claimed", 7, {}),
        ("replayed", 3, {"currency": "EUR", "amount": Decimal("46.82")}),
        ("event_processed", 2, {"waited": 5.0}),
    ):
        tally = hours.Tally(
            hour=hour,
            endpoint="POST /",
            outcome=outcome,
            count=count,
            **more,
        )
        hours.add([tally], using="default")
    old = hours.Tally(hour=hour - 30, endpoint="POST /", outcome="claimed", count=1)
    hours.add([old], using="default")
    said = monitor.get(URL).json()

    assert (said["waits"]["held"], said["waits"]["dead"]) == (1, 0)
    assert said["waits"]["oldest_held_since"] is not None
    assert said["last_24_hours"] == {
        "requests": 10,
        "repeats": 3,
        "not_charged": {"EUR": said["last_24_hours"]["not_charged"]["EUR"]},
        "told_to_wait": 0,
        "mismatched": 0,
        "events": 2,
        "event_duplicates": 0,
        "event_seconds": 2.5,
    }
    assert Decimal(said["last_24_hours"]["not_charged"]["EUR"]) == Decimal("46.82")
    [shown] = re.findall(r"```json\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    documented = json.loads(shown)
    for part in ("waits", "last_24_hours"):
        assert documented[part].keys() == said[part].keys()
    assert documented.keys() == said.keys()


@cases(
    "query, status",
    {
        "nothing": ("", 200),
        "held": ("?fail_on=held", 503),
        "dead": ("?fail_on=dead", 200),
        "either": ("?fail_on=dead,held", 503),
        "a slip of the pen": ("?fail_on=hold", 400),
    },
)
def test_it_fails_on_what_it_is_asked_to(
    query: str, status: int, monitor: Client
) -> None:
    IdempotencyRecordFactory.create(held=True, key="x" * 21)
    ProcessedEventFactory.create(due=True)

    assert monitor.get(URL + query).status_code == status


@pytest.mark.parametrize("atomic_requests", [False, True])
def test_it_fails_without_the_database(
    atomic_requests: bool, monitor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = connection.settings_dict
    monkeypatch.setitem(settings, "ATOMIC_REQUESTS", atomic_requests)

    def refuse(execute: Any, sql: str, *rest: Any) -> Any:
        raise OperationalError("secret")

    with connection.execute_wrapper(refuse):
        response = monitor.get(URL)

    assert response.status_code == 503
    assert response.json() == {
        "detail": "The database can't be read: OperationalError."
    }


@cases("method, status", {"head": ("head", 200), "post": ("post", 405)})
def test_it_is_only_read(method: str, status: int, monitor: Client) -> None:
    assert getattr(monitor, method)(URL).status_code == status
