"""ATOMIC_REQUESTS on and off: the decorator changes nothing but what it promises."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.test import Client
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.support.client import new_key, post
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db(transaction=True)

View = Callable[..., Any]


@pytest.fixture(params=[True, False], ids=["on", "off"])
def atomic_requests(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(autouse=True)
def _set_atomic_requests(
    atomic_requests: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", atomic_requests)


def depth(request: HttpRequest) -> HttpResponse:
    """Say in how many transactions and savepoints the view runs."""
    return JsonResponse({"depth": len(connection.atomic_blocks)})


def serve(settings: Any, view: View) -> None:
    settings.ROOT_URLCONF = (path("view/", view),)


PLACEMENTS = {
    "plain": idempotent(required=False)(depth),
    "above": transaction.non_atomic_requests(idempotent(required=False)(depth)),
    "below": idempotent(required=False)(transaction.non_atomic_requests(depth)),
}


@pytest.mark.parametrize("method", ["get", "head", "options", "trace"])
def test_safe_method_runs_where_django_would_run_it(
    method: str, atomic_requests: bool, settings: Any
) -> None:
    depths = []

    @idempotent
    def view(request: HttpRequest) -> HttpResponse:
        depths.append(len(connection.atomic_blocks))
        return HttpResponse()

    serve(settings, view)
    getattr(Client(), method)("/view/")

    assert depths == [int(atomic_requests)]


@pytest.mark.parametrize("placement", ["above", "below"])
def test_safe_method_of_a_non_atomic_view_runs_in_no_transaction(
    placement: str, settings: Any
) -> None:
    serve(settings, PLACEMENTS[placement])

    assert Client().get("/view/").json() == {"depth": 0}


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("keyed", [True, False], ids=["with key", "without key"])
def test_unsafe_method_runs_in_one_transaction_of_ours(
    keyed: bool, placement: str, settings: Any
) -> None:
    serve(settings, PLACEMENTS[placement])

    answer = post("/view/", new_key() if keyed else None)

    assert answer.json == {"depth": 1}


@pytest.mark.parametrize("is_raised", [True, False], ids=["raised", "returned"])
def test_refusal_without_a_key_is_rolled_back_if_it_is_raised(
    is_raised: bool, settings: Any
) -> None:
    """With a key: `placements/test_failures`."""

    @idempotent(required=False)
    def view(request: HttpRequest) -> HttpResponse:
        Order.objects.create()
        if is_raised:
            raise ValidationError("no")
        return HttpResponse(status=400)

    serve(settings, view)
    post("/view/")

    assert Order.objects.count() == (0 if is_raised else 1)


@pytest.mark.parametrize("placement", ["above", "below"])
def test_not_found_of_a_non_atomic_view_reaches_the_client(
    placement: str, settings: Any
) -> None:
    def raises(request: HttpRequest) -> HttpResponse:
        Order.objects.create()
        raise Http404

    views = {
        "above": transaction.non_atomic_requests(idempotent(raises)),
        "below": idempotent(transaction.non_atomic_requests(raises)),
    }
    serve(settings, views[placement])

    assert post("/view/", new_key()).status == 404  # FR-009
    assert not IdempotencyRecord.objects.exists()


def test_view_in_the_projects_own_transaction_works(settings: Any) -> None:
    serve(settings, transaction.atomic(idempotent(depth)))  # FR-010
    key = new_key()

    assert [post("/view/", key).word for _ in range(2)] == ["200", "200 replayed"]
