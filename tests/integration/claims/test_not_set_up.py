"""What a project has forgotten is said in a sentence that shows what to do."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.webhooks import Event, providers, webhook
from tests.support.cases import cases
from tests.support.deliveries import SECRET, stripe
from tests.support.ordering import forgiving_client, orders, place_order, send
from tests.testapp.models import Order

leased: Any = idempotent(lease=timedelta(minutes=1))


def handle(event: Event) -> None:
    Order.objects.create()


stripe_events: Any = webhook(
    providers.STRIPE, secrets=SECRET, endpoint="tested-not-set-up"
)
urlpatterns = [
    path("orders/", idempotent(place_order)),
    path("leased/", leased(place_order)),
    path("webhook/", stripe_events(handle)),
]


@contextmanager
def missing(model: Any, column: str | None) -> Iterator[None]:
    table = model._meta.db_table
    there, back = f"{table} RENAME TO elsewhere", f"elsewhere RENAME TO {table}"
    if column is not None:
        there = f"{table} RENAME COLUMN {column} TO elsewhere"
        back = f"{table} RENAME COLUMN elsewhere TO {column}"
    _execute(f"ALTER TABLE {there}")
    try:
        yield
    finally:
        _execute(f"ALTER TABLE {back}")


def _execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


@pytest.mark.urls(__name__)
@pytest.mark.django_db(transaction=True)
@cases(
    "url, model, column",
    {
        "atomic": ("/orders/", IdempotencyRecord, None),
        "leased": ("/leased/", IdempotencyRecord, None),
        "webhook": ("/webhook/", ProcessedEvent, None),
        "column of an atomic claim": ("/orders/", IdempotencyRecord, "attempts"),
        "column of a leased one": ("/leased/", IdempotencyRecord, "lease_expires_at"),
        "column of an event": ("/webhook/", ProcessedEvent, "object_key"),
    },
)
def test_what_was_not_migrated_shows_the_command_and_nothing_is_done(
    caplog: pytest.LogCaptureFixture, url: str, model: Any, column: str | None
) -> None:
    client, sent = forgiving_client(), stripe()
    with missing(model, column):
        refused = send(client, url, sent.body, **sent.headers)

    line = "python manage.py migrate django_idempotency --database default"
    assert (refused.status_code, line in caplog.text, orders()) == (500, True, 0)
    assert send(client, url, sent.body, **sent.headers).status_code < 300


SET_UP = """
import sys
from django.conf import settings

sys.modules["{absent}"] = None
settings.configure(INSTALLED_APPS={apps}, SECRET_KEY="x")
import django

django.setup()
import {imported}
"""


@cases(
    "apps, imported, absent, line",
    {
        "app": (
            ["django.contrib.contenttypes"],
            "django_idempotency.decorators",
            "nothing",
            'INSTALLED_APPS = [..., "django_idempotency"]',
        ),
        "extra": (
            ["django_idempotency"],
            "django_idempotency.rest_framework",
            "rest_framework",
            "pip install django-idempotency[drf]",
        ),
        "extra for ninja": (
            ["django_idempotency"],
            "django_idempotency.contrib.ninja",
            "ninja",
            "pip install django-idempotency[ninja]",
        ),
        "extra for webhooks": (
            ["django_idempotency"],
            "django_idempotency.webhooks.rest_framework",
            "rest_framework",
            "pip install django-idempotency[drf]",
        ),
    },
)
def test_what_is_not_installed_is_named_with_the_line(
    apps: list[str], imported: str, absent: str, line: str
) -> None:
    program = SET_UP.format(apps=apps, imported=imported, absent=absent)
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 1
    assert line in done.stderr.splitlines()[-1]
