"""ATOMIC_REQUESTS on two databases, and a view that writes to both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection, connections
from django.http import HttpRequest, HttpResponse
from django.urls import path
from pytest_django import DjangoDbBlocker
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.rest_framework import IdempotencyMixin
from tests.concurrency.answers import new_key, post
from tests.testapp.models import Order

from .databases import copy_of_the_default

pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.postgresql,
    pytest.mark.direct,
]

refusals: list[Exception] = []


def write_to_both() -> None:
    Order.objects.create()
    Order.objects.using("other").create()
    if refusals:
        raise refusals.pop()


@idempotent
def plain(request: HttpRequest) -> HttpResponse:
    write_to_both()
    return HttpResponse(status=201)


class Rest(IdempotencyMixin, APIView):
    def post(self, request: Request) -> Response:
        write_to_both()
        return Response(status=201)


urlpatterns = [path("plain/", plain), path("rest/", Rest.as_view())]


@pytest.fixture(autouse=True)
def two_databases(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """Django's test cases would refuse an alias that was not there when they began."""
    with (
        django_db_blocker.unblock(),
        copy_of_the_default("other", ATOMIC_REQUESTS=True),
    ):
        connection.settings_dict["ATOMIC_REQUESTS"] = True
        try:
            yield
        finally:
            connection.settings_dict["ATOMIC_REQUESTS"] = False
            connections["other"].close()
            for model in (Order, IdempotencyRecord):
                model._base_manager.all()._raw_delete(using="default")
            connection.close()


def written() -> tuple[int, int]:
    return Order.objects.count(), Order.objects.using("other").count()


@pytest.mark.parametrize(
    ("url", "refusal", "status"),
    [("/rest/", ValidationError("no"), 400), ("/plain/", RuntimeError("no"), 500)],
    ids=["FR-085-validation-error", "FR-085-crash"],
)
def test_refusal_leaves_nothing_in_either_database(
    url: str, refusal: Exception, status: int
) -> None:
    refusals.append(refusal)
    answer = post(url, new_key())

    assert (answer.status, written()) == (status, (0, 0))
    assert not IdempotencyRecord.objects.filter(state="kept").exists()


@pytest.mark.parametrize("url", ["/rest/", "/plain/"])
def test_retry_writes_to_both_once(url: str) -> None:
    """FR-085: the record follows its own database."""
    refusals.append(ValidationError("no") if url == "/rest/" else RuntimeError("no"))
    key = new_key()
    answers = [post(url, key).word for _ in range(3)]

    assert answers[1:] == ["201", "201 replayed"]
    assert written() == (1, 1)
