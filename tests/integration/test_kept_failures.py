"""Which failures are kept and which free the key: FR-039, FR-040 and FR-043."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

import pytest
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.db import IntegrityError, connection, transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.test import Client
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import BrokenTransaction
from django_idempotency.models import IdempotencyRecord
from tests.integration.ordering import (
    JSON,
    is_replay,
    orders,
    problem_code,
    signed_in_client,
)
from tests.testapp.models import Order

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as ClientResponse

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

KEPT = [200, 201, 204, 302, 400, 401, 402, 403, 404, 409, 410, 422]
RELEASED = [405, 406, 408, 413, 415, 425, 429, 500, 502, 503, 504, 599]

RAISED = {
    "404": Http404("none"),
    "403": PermissionDenied("no"),
    "400": BadRequest("bad"),
    "suspicious": SuspiciousOperation("odd"),
    "error": ValueError("no"),
}


@idempotent
def returning_view(request: HttpRequest, status: int) -> HttpResponse:
    Order.objects.create()
    return HttpResponse(b"{}", status=status)


@idempotent(required=False)
def unkeyed_view(request: HttpRequest, status: int) -> HttpResponse:
    Order.objects.create()
    return HttpResponse(b"{}", status=status)


@idempotent
def raising_view(request: HttpRequest, kind: str) -> HttpResponse:
    Order.objects.create()
    raise RAISED[kind]


class World:
    """What changes between two tries."""

    is_ready = False


def _when_ready(failure: HttpResponse | Exception) -> HttpResponse:
    Order.objects.create()
    if World.is_ready:
        return HttpResponse(b"done", status=201)
    if isinstance(failure, Exception):
        raise failure
    return failure


@idempotent
def returned_when_not_ready(request: HttpRequest, status: int) -> HttpResponse:
    return _when_ready(HttpResponse(b"not yet", status=status))


@idempotent
def raised_when_not_ready(request: HttpRequest, kind: str) -> HttpResponse:
    return _when_ready(RAISED[kind])


def _keep_all(response: HttpResponseBase) -> bool:
    return True


def _keep_success(response: HttpResponseBase) -> bool:
    return response.status_code < 400


@idempotent(keep=_keep_all)
def keeping_all(request: HttpRequest, status: int) -> HttpResponse:
    return _when_ready(HttpResponse(b"not yet", status=status))


@idempotent(keep=_keep_success)
def keeping_success(request: HttpRequest, status: int) -> HttpResponse:
    return _when_ready(HttpResponse(b"not yet", status=status))


@idempotent
def charge_view(request: HttpRequest) -> HttpResponse:
    Order.objects.create()
    card = json.loads(request.body)["card"]
    return JsonResponse({"card": card}, status=402 if card == "declined" else 201)


@idempotent(required=False)
def swallowing_view(request: HttpRequest, status: int) -> HttpResponse:
    """Swallow an error that breaks the transaction."""
    Order.objects.create(reference="once")
    with contextlib.suppress(IntegrityError):
        Order.objects.create(reference="once")
    return HttpResponse(status=status)


@idempotent(required=False)
def swallowing_sql_view(request: HttpRequest, status: int) -> HttpResponse:
    """The same by a statement of which Django's transaction knows nothing."""
    Order.objects.create()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column FROM no_such_table")
    except Exception:  # noqa: S110 - this is the mistake
        pass
    return HttpResponse(status=status)


@idempotent(required=False)
def rolling_back_view(request: HttpRequest, status: int) -> HttpResponse:
    Order.objects.create()
    transaction.set_rollback(True)
    return HttpResponse(status=status)


LEAVING = {"exit": SystemExit(), "interrupt": KeyboardInterrupt()}


@idempotent
def leaving_view(request: HttpRequest, kind: str) -> HttpResponse:
    """A worker that is told to stop in the middle."""
    Order.objects.create()
    if not World.is_ready:
        raise LEAVING[kind]
    return HttpResponse(status=201)


@idempotent
def to_login_view(request: HttpRequest) -> HttpResponse:
    Order.objects.create()
    return HttpResponse(status=302, headers={"Location": "/accounts/login/?next=/"})


urlpatterns = [
    path("returning/<int:status>/", returning_view),
    path("unkeyed/<int:status>/", unkeyed_view),
    path("raising/<str:kind>/", raising_view),
    path("returned/<int:status>/", returned_when_not_ready),
    path("raised/<str:kind>/", raised_when_not_ready),
    path("all/<int:status>/", keeping_all),
    path("success/<int:status>/", keeping_success),
    path("charge/", charge_view),
    path("swallowing/<int:status>/", swallowing_view),
    path("swallowing-sql/<int:status>/", swallowing_sql_view),
    path("rolling-back/<int:status>/", rolling_back_view),
    path("leaving/<str:kind>/", leaving_view),
    path("to-login/", to_login_view),
]


@pytest.fixture(autouse=True)
def _world_is_not_ready() -> None:
    World.is_ready = False


def send(
    client: Client, url: str, body: str = "{}", *, key: str | None = "K"
) -> ClientResponse:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(url, body, content_type=JSON, headers=headers)


def forgiving_client() -> Client:
    """A client that gets 500 where a server would answer it."""
    return signed_in_client(raise_request_exception=False)


def record() -> tuple[str, int, str] | None:
    """State, attempts and last error of the only record, if there is one."""
    rows = IdempotencyRecord.objects.values_list("state", "attempts", "last_error")
    return rows.get() if rows else None


@pytest.mark.parametrize("status", KEPT)
def test_returned_answer_is_kept_with_the_writes(status: int) -> None:
    client = signed_in_client()
    copies = [send(client, f"/returning/{status}/") for _ in range(2)]

    assert [is_replay(copy) for copy in copies] == [False, True]
    assert (orders(), record()) == (1, ("kept", 1, ""))


@pytest.mark.parametrize("status", RELEASED)
def test_returned_answer_that_is_no_outcome_is_rolled_back(status: int) -> None:
    response = send(signed_in_client(), f"/returning/{status}/")

    assert (response.status_code, response.content) == (status, b"{}")
    assert (orders(), record()) == (0, ("released", 1, ""))


@pytest.mark.parametrize("status", [429, 503])
def test_released_key_runs_again_and_counts_the_attempts(status: int) -> None:
    client = signed_in_client()
    copies = [send(client, f"/returning/{status}/") for _ in range(3)]

    assert [is_replay(copy) for copy in copies] == [False, False, False]
    assert record() == ("released", 3, "")


@pytest.mark.parametrize("status", KEPT)
def test_without_a_key_the_same_answers_are_committed(status: int) -> None:
    send(signed_in_client(), f"/unkeyed/{status}/", key=None)

    assert (orders(), record()) == (1, None)


@pytest.mark.parametrize("status", RELEASED)
def test_without_a_key_the_same_answers_are_rolled_back(status: int) -> None:
    response = send(signed_in_client(), f"/unkeyed/{status}/", key=None)

    assert (response.status_code, orders(), record()) == (status, 0, None)


@pytest.mark.parametrize(
    ("kind", "status"),
    [("404", 404), ("403", 403), ("400", 400), ("suspicious", 400)],
)
def test_raised_refusal_is_as_without_us_and_leaves_nothing(
    kind: str, status: int
) -> None:
    response = send(signed_in_client(), f"/raising/{kind}/")

    assert (response.status_code, problem_code(response)) == (status, None)
    assert (orders(), record()) == (0, None)


def test_raised_error_reaches_django() -> None:
    with pytest.raises(ValueError, match="no"):
        send(signed_in_client(), "/raising/error/")


def test_raised_error_rolls_back_and_leaves_a_note() -> None:
    client = forgiving_client()
    statuses = [send(client, "/raising/error/").status_code for _ in range(2)]

    assert (statuses, orders()) == ([500, 500], 0)
    assert record() == ("released", 2, "builtins.ValueError")


def test_note_never_holds_the_message_of_an_error() -> None:
    send(forgiving_client(), "/raising/error/")
    row = IdempotencyRecord.objects.values_list("last_error", "response_body").get()

    assert row == ("builtins.ValueError", None)


@pytest.mark.parametrize("url", ["/raised/error/", "/returned/503/", "/returned/500/"])
def test_fr039_failure_frees_the_key_and_the_retry_runs(url: str) -> None:
    """FR-039."""
    client = forgiving_client()
    first = send(client, url)
    World.is_ready = True
    second = send(client, url)
    third = send(client, url)

    assert first.status_code >= 500
    assert (second.status_code, is_replay(second)) == (201, False)
    assert (third.status_code, is_replay(third), orders()) == (201, True, 1)


def test_fr039_success_after_failures_keeps_their_number() -> None:
    """FR-039."""
    client = forgiving_client()
    for _ in range(2):
        send(client, "/raised/error/")
    World.is_ready = True
    send(client, "/raised/error/")

    assert record() == ("kept", 3, "builtins.ValueError")


def test_fr039_project_may_keep_a_5xx() -> None:
    """FR-039."""
    client = signed_in_client()
    send(client, "/all/503/")
    World.is_ready = True
    response = send(client, "/all/503/")

    assert (response.status_code, is_replay(response), orders()) == (503, True, 1)


@pytest.mark.parametrize("kind", ["400", "404", "403"])
def test_fr040_raised_4xx_frees_the_key(kind: str) -> None:
    """FR-040."""
    client = signed_in_client()
    send(client, f"/raised/{kind}/")
    World.is_ready = True
    response = send(client, f"/raised/{kind}/")

    assert (response.status_code, is_replay(response), orders()) == (201, False, 1)


@pytest.mark.parametrize("status", [400, 404, 409])
def test_fr040_returned_4xx_is_kept_until_the_client_makes_a_new_key(
    status: int,
) -> None:
    """FR-040."""
    client = signed_in_client()
    send(client, f"/returned/{status}/")
    World.is_ready = True
    again = send(client, f"/returned/{status}/")
    anew = send(client, f"/returned/{status}/", key="K2")

    assert (again.status_code, is_replay(again)) == (status, True)
    assert (anew.status_code, is_replay(anew)) == (201, False)


@pytest.mark.parametrize("status", [400, 404, 409])
def test_fr040_keep_of_the_policy_frees_a_returned_4xx(status: int) -> None:
    """FR-040."""
    client = signed_in_client()
    send(client, f"/success/{status}/")
    World.is_ready = True
    response = send(client, f"/success/{status}/")

    assert (response.status_code, is_replay(response), orders()) == (201, False, 1)


def test_fr043_decline_is_replayed_to_the_same_card() -> None:
    """FR-043."""
    client = signed_in_client()
    send(client, "/charge/", '{"card":"declined"}')
    response = send(client, "/charge/", '{"card":"declined"}')

    assert (response.status_code, is_replay(response), orders()) == (402, True, 1)


def test_fr043_new_card_under_the_same_key_is_told_to_make_a_new_one() -> None:
    """FR-043."""
    client = signed_in_client()
    send(client, "/charge/", '{"card":"declined"}')
    response = send(client, "/charge/", '{"card":"good"}')

    assert (response.status_code, problem_code(response)) == (422, "key-reused")
    assert "make a new key" in json.loads(response.content)["detail"]


def test_fr043_new_card_under_a_new_key_runs() -> None:
    """FR-043."""
    client = signed_in_client()
    send(client, "/charge/", '{"card":"declined"}')
    response = send(client, "/charge/", '{"card":"good"}', key="K2")

    assert (response.status_code, is_replay(response), orders()) == (201, False, 2)


BREAKING = pytest.mark.parametrize(
    "view",
    [
        "swallowing",
        pytest.param("swallowing-sql", marks=pytest.mark.postgresql),
        "rolling-back",
    ],
)
KEYS = pytest.mark.parametrize("key", ["K", None], ids=["keyed", "unkeyed"])


@BREAKING
@KEYS
def test_fr007_success_over_a_broken_transaction_raises(
    view: str, key: str | None
) -> None:
    """FR-007."""
    with pytest.raises(BrokenTransaction):
        send(signed_in_client(), f"/{view}/200/", key=key)


@BREAKING
@KEYS
def test_fr007_success_over_a_broken_transaction_is_never_kept(
    view: str, key: str | None
) -> None:
    """FR-007."""
    response = send(forgiving_client(), f"/{view}/200/", key=key)
    states = set(IdempotencyRecord.objects.values_list("state", flat=True))

    assert (response.status_code, orders(), states - {"released"}) == (500, 0, set())


@BREAKING
@KEYS
@pytest.mark.parametrize("status", [400, 422, 503])
def test_error_answer_over_a_broken_transaction_passes_and_frees_the_key(
    view: str, key: str | None, status: int
) -> None:
    response = send(signed_in_client(), f"/{view}/{status}/", key=key)
    states = set(IdempotencyRecord.objects.values_list("state", flat=True))

    assert (response.status_code, orders(), states - {"released"}) == (status, 0, set())


def test_redirect_to_sign_in_is_never_kept() -> None:
    client = signed_in_client()
    copies = [send(client, "/to-login/") for _ in range(2)]

    assert [is_replay(copy) for copy in copies] == [False, False]
    assert (orders(), record()) == (0, None)


def test_repeat_of_a_released_one_with_another_payload_is_refused() -> None:
    client = signed_in_client()
    send(client, "/returned/503/", '{"amount":1}')
    World.is_ready = True
    response = send(client, "/returned/503/", '{"amount":2}')

    assert (problem_code(response), orders()) == ("key-reused", 0)
    assert record() == ("released", 1, "")


@pytest.mark.parametrize("kind", ["exit", "interrupt"])
def test_fr018_exit_propagates_and_frees_the_key(kind: str) -> None:
    """FR-018."""
    client = signed_in_client()
    with pytest.raises(type(LEAVING[kind])):
        send(client, f"/leaving/{kind}/")
    World.is_ready = True
    response = send(client, f"/leaving/{kind}/")

    assert (response.status_code, is_replay(response), orders()) == (201, False, 1)
