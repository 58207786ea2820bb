"""Records in a database of their own: the purge, and a default that nobody can ask."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.models.functions import Now
from django.http import HttpResponse
from pytest_django import DjangoDbBlocker

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from tests.concurrency.answers import call, new_key
from tests.concurrency.storm import TIMEOUT, crew, start
from tests.testapp.models import Order

from .databases import Routes, copy_of_the_default

ALIASES = ("default", "other")

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.direct,
    pytest.mark.django_db(transaction=True, databases=ALIASES),
]


@pytest.fixture(autouse=True, scope="module")
def _other(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A database under the alias ``other``, known before the first test begins."""
    with django_db_blocker.unblock(), copy_of_the_default("other"):
        yield


@idempotent
def order(request: IdempotentRequest) -> HttpResponse:
    Order.objects.create()
    return HttpResponse(status=201)


def make_expired() -> None:
    """Make one record in each database."""
    for name in ALIASES:
        IdempotencyRecord.objects.using(name).create(
            id="00000000-0000-8000-8000-000000000000",
            state="released",
            created_at=Now(),
            expires_at=Now(),
        )


def purge(*arguments: str) -> None:
    call_command("purge_idempotency_keys", *arguments, stdout=io.StringIO())


def left() -> dict[str, int]:
    return {name: IdempotencyRecord.objects.using(name).count() for name in ALIASES}


@pytest.mark.parametrize("name", ALIASES)
def test_purge_works_in_the_database_that_it_is_told(name: str) -> None:
    make_expired()
    purge("--database", name)

    assert left() == {"default": 1, "other": 1} | {name: 0}


def test_purge_works_where_records_are_written() -> None:
    make_expired()
    with Routes.sending(read="default", write="other"):
        purge()

    assert left() == {"default": 1, "other": 0}


def test_writes_beside_the_record_are_rolled_back_with_it() -> None:
    @idempotent
    def view(request: IdempotentRequest) -> HttpResponse:
        Order.objects.create()
        return HttpResponse(status=503)

    with Routes.sending(read="other", write="other"):
        call(view, new_key())

    assert Order.objects.using("other").count() == 0


def test_default_database_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """FR-084: a project whose default database is empty."""
    key = new_key()
    with (
        Routes.sending(read="other", write="other"),
        monkeypatch.context() as changed,
        crew() as threads,
    ):
        # A thread makes its own connections from the settings, and this one raises.
        changed.setitem(
            connections.settings["default"], "ENGINE", "django.db.backends.dummy"
        )
        words = [
            start(threads, call, order, key).result(TIMEOUT).word for _ in range(2)
        ]

    assert words == ["201", "201 replayed"]
