"""FR-111, in a project with one of these users: run by `test_principals`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.testapp.models import Order

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as ClientResponse

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]


@idempotent
def order(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"order": Order.objects.create().pk}, status=201)


urlpatterns = [path("order/", order)]


def user(name: str) -> Any:
    users: Any = get_user_model()._default_manager
    return users.get_or_create(name=name)[0]


def post(by: Any) -> ClientResponse:
    client = Client()
    client.force_login(by)
    return client.post("/order/", headers={"Idempotency-Key": "order-1"})


def test_repeat_is_replayed_to_the_user_and_to_nobody_else() -> None:
    ann = user("ann@example.com")
    first, again = post(ann), post(ann)
    label = ann._meta.concrete_model._meta.label

    assert again.content == first.content
    assert IdempotencyRecord.objects.get().scope == f"{label}:{ann.pk}|POST|/order/"
    post(user("bob@example.com"))
    assert Order.objects.count() == 2


def test_deleting_the_user_keeps_the_record_and_frees_the_key_for_nobody() -> None:
    ann = user("ann@example.com")
    first = post(ann)
    ann.delete()
    assert IdempotencyRecord.objects.count() == 1
    second = post(user("bob@example.com"))

    assert "Idempotency-Replayed" not in second.headers
    assert second.content != first.content
