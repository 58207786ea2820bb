"""Raised and returned failures, with and without ATOMIC_REQUESTS."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.http import Http404
from django.urls import path
from django.utils.decorators import method_decorator
from rest_framework.decorators import api_view, permission_classes
from rest_framework.exceptions import APIException, PermissionDenied, ValidationError
from rest_framework.permissions import AllowAny, IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.testapp.models import Order

from .exchange import is_replay, orders, send, signed_in, states

pytestmark = [pytest.mark.urls(__name__)]
commits = pytest.mark.usefixtures("db")

ERRORS: dict[str, type[Exception]] = {
    "validation": ValidationError,
    "not-found": Http404,
    "denied": PermissionDenied,
    "server": APIException,
}


def audit(request: Request) -> Response:
    """Write, then fail as told."""
    Order.objects.create()
    data: Any = request.data
    how = data.get("how")
    if how in ERRORS:
        raise ERRORS[how]
    if how == "broken":
        transaction.set_rollback(True)
        return Response(status=201)
    return Response({"how": how}, status=400 if how == "returned" else 201)


class Mixin(IdempotencyMixin, APIView):
    def post(self, request: Request) -> Response:
        return audit(request)


class Keeping(Mixin):
    idempotency_policy = IdempotencyPolicy(keep_errors=True)


class Unprotected(Mixin):
    idempotency_policy = None


class Refusing(Mixin):
    permission_classes = [IsAdminUser]


class NonAtomic(Mixin):
    @method_decorator(transaction.non_atomic_requests)
    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return super().dispatch(request, *args, **kwargs)


@api_view(["POST"])
@idempotent
def below(request: Request) -> Response:
    return audit(request)


@api_view(["POST"])
@permission_classes([IsAdminUser])
@idempotent
def refusing_below(request: Request) -> Response:
    return audit(request)


@api_view(["POST"])
@permission_classes([AllowAny])
@idempotent(keep_errors=True)
def keeping_below(request: Request) -> Response:
    return audit(request)


@transaction.non_atomic_requests
@api_view(["POST"])
@idempotent
def non_atomic_below(request: Request) -> Response:
    return audit(request)


@api_view(["POST"])
def without_us(request: Request) -> Response:
    return audit(request)


class Plain(APIView):
    def post(self, request: Request) -> Response:
        return audit(request)


@method_decorator(idempotent, name="dispatch")
class OnDispatch(Plain): ...


@method_decorator(idempotent, name="dispatch")
class RefusingOnDispatch(Plain):
    permission_classes = [IsAdminUser]


urlpatterns = [
    path("mixin/", Mixin.as_view()),
    path("keeping/", Keeping.as_view()),
    path("unprotected/", Unprotected.as_view()),
    path("refusing/", Refusing.as_view()),
    path("non-atomic/", NonAtomic.as_view()),
    path("below/", below),
    path("refusing-below/", refusing_below),
    path("keeping-below/", keeping_below),
    path("non-atomic-below/", non_atomic_below),
    path("without-us/", without_us),
    path("dispatch/", OnDispatch.as_view()),
    path("refusing-dispatch/", RefusingOnDispatch.as_view()),
]
PROTECTED = ["/mixin/", "/below/", "/dispatch/"]
STATUS = {"validation": 400, "not-found": 404, "denied": 403, "server": 500}


@commits
@pytest.mark.parametrize("how", ["validation", "not-found", "denied"])
@pytest.mark.parametrize("path", [*PROTECTED, "/without-us/", "/unprotected/"])
def test_raised_refusal_rolls_back_as_without_us(
    path: str, how: str, atomic_requests: None
) -> None:
    """FR-008, first view; the record never outlives the rolled-back work."""
    response = send(signed_in(), path, {"how": how})

    assert (response.status_code, orders(), states()) == (STATUS[how], 0, [])


@commits
@pytest.mark.parametrize("path", PROTECTED)
def test_returned_refusal_commits_as_without_us_and_is_kept(
    path: str, either_way: bool
) -> None:
    """FR-008, second view."""
    client = signed_in()
    first, again = (send(client, path, {"how": "returned"}) for _ in range(2))

    assert (first.status_code, again.status_code) == (400, 400)
    assert is_replay(again)
    assert (orders(), states()) == (1, ["kept"])


@commits
@pytest.mark.parametrize("path", ["/without-us/", "/unprotected/"])
def test_returned_refusal_commits_where_there_is_no_protection(
    path: str, atomic_requests: None
) -> None:
    """FR-008, the yardstick."""
    assert send(signed_in(), path, {"how": "returned"}).status_code == 400
    assert (orders(), states()) == (1, [])


@commits
@pytest.mark.parametrize("path", PROTECTED)
def test_raised_refusal_executes_when_the_world_has_changed(
    path: str, either_way: bool
) -> None:
    """The key is free: the same key does the work later."""
    client = signed_in()
    statuses = [
        send(client, path, data).status_code
        for data in ({"how": "validation"}, {"how": "well"})
    ]

    assert statuses == [400, 201]
    assert (orders(), states()) == (1, ["kept"])


@commits
@pytest.mark.parametrize("how", ["not-found", "validation", "server"])
@pytest.mark.parametrize("path", ["/non-atomic/", "/non-atomic-below/"])
def test_error_in_a_non_atomic_view_reaches_the_client(
    path: str, how: str, atomic_requests: None
) -> None:
    """FR-009: no TransactionManagementError, and the key isn't stuck."""
    client = signed_in()
    failed = send(client, path, {"how": how})

    assert (failed.status_code, orders()) == (STATUS[how], 0)
    assert "in_flight" not in states()
    assert send(client, path, {"how": how}).status_code == STATUS[how]


@commits
@pytest.mark.parametrize("how", ["validation", "not-found", "denied"])
@pytest.mark.parametrize("path", ["/keeping/", "/keeping-below/"])
def test_kept_error_is_replayed_and_its_work_is_not(
    path: str, how: str, either_way: bool
) -> None:
    client = signed_in()
    first, again = (send(client, path, {"how": how}) for _ in range(2))

    assert (first.status_code, again.status_code) == (STATUS[how], STATUS[how])
    assert (is_replay(first), is_replay(again)) == (False, True)
    assert again.content == first.content
    assert (orders(), states()) == (0, ["kept"])


@commits
@pytest.mark.parametrize("path", ["/keeping/", "/keeping-below/"])
def test_server_error_is_not_kept_even_where_errors_are(
    path: str, either_way: bool
) -> None:
    client = signed_in()
    answers = [send(client, path, {"how": "server"}) for _ in range(2)]

    assert [each.status_code for each in answers] == [500, 500]
    assert not is_replay(answers[1])
    assert orders() == 0


@commits
@pytest.mark.parametrize("path", ["/refusing/", "/refusing-below/"])
def test_refusal_before_the_handler_is_not_kept(path: str, either_way: bool) -> None:
    """FR-041, FR-042: granted afterwards, the same key works."""
    client = signed_in()
    refused = send(client, path)
    User.objects.update(is_staff=True)

    assert (refused.status_code, send(client, path).status_code) == (403, 201)


@commits
@pytest.mark.parametrize("path", [*PROTECTED, "/without-us/"])
def test_success_over_a_broken_transaction_is_an_error(
    path: str, atomic_requests: None
) -> None:
    """Trap T8; without us the client is told 201 about nothing."""
    response = send(signed_in(), path, {"how": "broken"})

    assert response.status_code == (201 if path == "/without-us/" else 500)
    assert orders() == 0


IN_TEST_CASE = {
    "raised in initial": ("/refusing/", {}, 403),
    "raised in initial, dispatch decorated": ("/refusing-dispatch/", {}, 403),
    "raised in initial, below api_view": ("/refusing-below/", {}, 403),
    "raised in handler": ("/mixin/", {"how": "validation"}, 400),
    "raised in handler, below api_view": ("/below/", {"how": "validation"}, 400),
    "raised in handler, dispatch decorated": (
        "/dispatch/",
        {"how": "validation"},
        400,
    ),
    "raised in unprotected handler": ("/unprotected/", {"how": "not-found"}, 404),
    "kept": ("/keeping/", {"how": "validation"}, 400),
}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "data", "status"), IN_TEST_CASE.values(), ids=IN_TEST_CASE.keys()
)
def test_error_does_not_poison_the_transaction_of_a_test_case(
    path: str, data: dict[str, str], status: int, atomic_requests: None
) -> None:
    """The framework's set_rollback never reaches a transaction that isn't ours."""
    client = signed_in()
    Order.objects.create(reference="of the test case")
    response = send(client, path, data)

    assert not transaction.get_connection().needs_rollback
    assert (response.status_code, orders()) == (status, 1)
    assert send(client, path, data).status_code == status
