"""Records in another database, and replicas that never hear of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection, connections, models
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from pytest_django import DjangoDbBlocker

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.testapp.models import Order

from .ordering import is_replay, orders, place_order, signed_in_client

pytestmark = [pytest.mark.urls(__name__), pytest.mark.postgresql]

WRITTEN = [User, Session, Order, IdempotencyRecord]

seen: list[tuple[bool, bool]] = []


@idempotent
def order(request: HttpRequest) -> HttpResponse:
    seen.append((connection.in_atomic_block, connections["other"].in_atomic_block))
    return place_order(request)


@idempotent
def crash(request: HttpRequest) -> HttpResponse:
    Order.objects.create()
    raise RuntimeError


urlpatterns = [path("order/", order), path("crash/", crash)]


class ReadsFromReplica:
    """A router: all reads go to a server that has heard of nothing."""

    def db_for_read(self, model: type[models.Model], **hints: Any) -> str | None:
        return "other" if model is IdempotencyRecord else None


class RecordsInOther:
    def db_for_read(self, model: type[models.Model], **hints: Any) -> str | None:
        return "other" if model is IdempotencyRecord else None

    db_for_write = db_for_read


@pytest.fixture(autouse=True)
def other(
    monkeypatch: pytest.MonkeyPatch,
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[dict[str, Any]]:
    """A second alias; by default another connection to the same database.

    Django's test cases would refuse an alias that was not there when they began.
    """
    settings = dict(connection.settings_dict)
    monkeypatch.setitem(connections.settings, "other", settings)
    seen.clear()
    with django_db_blocker.unblock():
        yield settings
        connections["other"].close()
        del connections["other"]
        for model in WRITTEN:
            model._base_manager.all()._raw_delete(using="default")


def routed_by(router: type) -> Any:
    return override_settings(DATABASE_ROUTERS=[f"{__name__}.{router.__name__}"])


def post(url: str = "/order/") -> Any:
    client = signed_in_client(raise_request_exception=False)
    return client.post(url, headers={"Idempotency-Key": "order-1"})


def test_retry_is_replayed_although_the_replica_has_no_record(
    other: dict[str, Any],
) -> None:
    """FR-083."""
    other["NAME"] = "nowhere"
    with routed_by(ReadsFromReplica):
        answers = [post() for _ in range(2)]

    assert ([is_replay(each) for each in answers], orders()) == ([False, True], 1)


def test_transaction_opens_on_the_alias_of_the_records() -> None:
    """FR-084."""
    with routed_by(RecordsInOther):
        post()

    assert seen == [(False, True)]


def test_record_in_another_alias_is_replayed() -> None:
    """FR-084."""
    with routed_by(RecordsInOther):
        answers = [post() for _ in range(2)]

    assert ([is_replay(each) for each in answers], orders()) == ([False, True], 1)


def test_work_in_another_database_than_the_record_is_not_rolled_back() -> None:
    """FR-084: the reason for check W010; not a promise, but what there is to know."""
    with routed_by(RecordsInOther):
        post("/crash/")
        states = list(IdempotencyRecord.objects.values_list("state", flat=True))

    assert (orders(), states) == (1, ["released"])
