"""Failures, with and without ATOMIC_REQUESTS; a project's hooks have the last word."""

from functools import wraps
from typing import Any

import pytest
from django.db import transaction
from django.http import Http404
from django.urls import path
from django.utils.decorators import method_decorator
from rest_framework.decorators import api_view, permission_classes
from rest_framework.exceptions import APIException, PermissionDenied, ValidationError
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin, RequestRefused
from tests.support.cases import cases
from tests.support.ordering import is_replay, orders
from tests.support.records import states
from tests.testapp.models import Order

from .exchange import KEY, send, send_twice, signed_in

pytestmark = [pytest.mark.urls(__name__)]
commits = pytest.mark.usefixtures("db")

ERRORS: dict[str, type[Exception]] = {
    "validation": ValidationError,
    "not-found": Http404,
    "denied": PermissionDenied,
    "server": APIException,
}


def audit(request: Request, /) -> Response:
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


class Plain(APIView):
    def post(self, request: Request) -> Response:
        return audit(request)


class Mixin(IdempotencyMixin, Plain): ...


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


@method_decorator(idempotent, name="dispatch")
class OnDispatch(Plain): ...


@method_decorator(idempotent, name="dispatch")
class RefusingOnDispatch(Plain):
    permission_classes = [IsAdminUser]


POST = api_view(["POST"])
for_admins = permission_classes([IsAdminUser])


class Counting(APIView):
    """Says in a header how often each hook has run for this request."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.calls: dict[str, int] = {}
        request._request.calls = self.calls  # type: ignore[attr-defined]
        super().initial(request, *args, **kwargs)

    def handle_exception(self, exc: Exception) -> Response:
        self._count("handle_exception")
        return super().handle_exception(exc)

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Any:
        self._count("finalize_response")
        final = super().finalize_response(request, response, *args, **kwargs)
        final["X-Final"] = str(self.calls["finalize_response"])
        return final

    def _count(self, name: str) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1

    def perform(self, request: Request) -> Response:
        Order.objects.create()
        data: Any = request.data
        match data.get("raises"):
            case "refusal":
                raise ValidationError("no")
            case "crash":
                raise RuntimeError("boom")
            case _:
                return Response({"done": True}, status=201)

    post = perform


class CountingMixin(IdempotencyMixin, Counting): ...


@method_decorator(idempotent, name="post")
class Decorated(Counting): ...


def tidy(error: Exception, context: Any) -> Response | None:
    """Turn whatever happens into JSON, as projects like to do."""
    if isinstance(error, RuntimeError):
        return Response({"error": "tidy"}, status=context["view"].tidy_status)
    return exception_handler(error, context)


class _Tidy(APIView):
    tidy_status = 500

    def get_exception_handler(self) -> Any:
        return tidy

    def post(self, request: Request) -> Response:
        Order.objects.create()
        raise RuntimeError("boom")


class Tidy(IdempotencyMixin, _Tidy): ...


class KeepingTidy(Tidy):
    idempotency_policy = IdempotencyPolicy(keep_errors=True)


@method_decorator(idempotent, name="post")
class TidyBelow(_Tidy): ...


@method_decorator(idempotent(keep_errors=True), name="post")
class KeepingTidyBelow(_Tidy): ...


urlpatterns = [
    path("counting/", CountingMixin.as_view()),
    path("counting-below/", Decorated.as_view()),
    *(
        path(f"{view.__name__}/{status}/", view.as_view(tidy_status=status))
        for view in (Tidy, KeepingTidy, TidyBelow, KeepingTidyBelow)
        for status in (409, 500, 503)
    ),
    path("mixin/", Mixin.as_view()),
    path("keeping/", Keeping.as_view()),
    path("unprotected/", Unprotected.as_view()),
    path("refusing/", Refusing.as_view()),
    path("non-atomic/", NonAtomic.as_view()),
    path("below/", POST(idempotent(audit))),
    path("refusing-below/", POST(for_admins(idempotent(audit)))),
    path("keeping-below/", POST(idempotent(keep_errors=True)(audit))),
    path("non-atomic-below/", transaction.non_atomic_requests(POST(idempotent(audit)))),
    path("without-us/", POST(audit)),
    path("dispatch/", OnDispatch.as_view()),
    path("refusing-dispatch/", RefusingOnDispatch.as_view()),
]
PROTECTED = ["/mixin/", "/below/", "/dispatch/"]
STATUS = {
    **{"validation": 400, "not-found": 404, "denied": 403, "server": 500},
    "returned": 400,
}


@commits
@pytest.mark.parametrize("how", ["validation", "not-found", "denied", "returned"])
@pytest.mark.parametrize("path", [*PROTECTED, "/without-us/", "/unprotected/"])
def test_refusal_rolls_back_if_it_is_raised_and_commits_if_not_as_without_us(
    path: str, how: str, atomic_requests: None
) -> None:
    """FR-008; the record never outlives the rolled-back work."""
    response = send(signed_in(), path, {"how": how})
    is_returned = how == "returned"
    kept = ["kept"] if is_returned and path in PROTECTED else []

    assert response.status_code == STATUS[how]
    assert (orders(), states()) == (int(is_returned), kept)


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
@pytest.mark.parametrize(
    ("how", "is_kept"),
    [("validation", True), ("not-found", True), ("denied", True), ("server", False)],
)
@pytest.mark.parametrize("path", ["/keeping/", "/keeping-below/"])
def test_kept_error_is_replayed_and_its_work_is_not(
    path: str, how: str, is_kept: bool, either_way: bool
) -> None:
    """A server's error isn't kept even there."""
    client = signed_in()
    first, again = (send(client, path, {"how": how}) for _ in range(2))

    assert (first.status_code, again.status_code) == (STATUS[how], STATUS[how])
    assert (is_replay(first), is_replay(again)) == (False, is_kept)
    assert again.content == first.content
    assert (orders(), "kept" in states()) == (0, is_kept)


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
    "raised in handler, dispatch decorated": ("/dispatch/", {"how": "validation"}, 400),
    "raised in unprotected handler": ("/unprotected/", {"how": "not-found"}, 404),
    "kept": ("/keeping/", {"how": "validation"}, 400),
}


@pytest.mark.django_db
@cases("path, data, status", IN_TEST_CASE)
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


# The view's own hooks run once, and a project's exception handler has the last word


def calls(response: Any) -> dict[str, int]:
    counted: dict[str, int] = response.wsgi_request.calls
    return counted


@commits
@pytest.mark.parametrize("path", ["/counting/", "/counting-below/"])
def test_finalize_response_runs_once_and_its_header_is_replayed(path: str) -> None:
    """Trap T11."""
    client = signed_in()
    first, again = send_twice(client, path)

    assert calls(first) == {"finalize_response": 1}
    assert (first.headers["X-Final"], again.headers["X-Final"]) == ("1", "1")
    assert calls(again) == {}


@commits
@pytest.mark.parametrize(
    ("raises", "status", "counts"),
    [
        ("refusal", 400, {"handle_exception": 1, "finalize_response": 1}),
        ("crash", 500, {"handle_exception": 1}),
    ],
)
@pytest.mark.parametrize("path", ["/counting/", "/counting-below/"])
def test_exception_is_handled_once(
    path: str, raises: str, status: int, counts: dict[str, int], either_way: bool
) -> None:
    response = send(signed_in(), path, {"raises": raises})

    assert (response.status_code, orders()) == (status, 0)
    assert calls(response) == counts


@commits
@pytest.mark.parametrize("status", [409, 500, 503])
@pytest.mark.parametrize("view", ["Tidy", "TidyBelow"])
def test_tidy_answer_to_a_crash_is_released_with_its_work(
    view: str, status: int, either_way: bool
) -> None:
    """Trap T26: by the final answer; a crash that became 409 leaves no note."""
    client = signed_in()
    answers = send_twice(client, f"/{view}/{status}/")

    assert [each.status_code for each in answers] == [status, status]
    assert answers[0].json() == {"error": "tidy"}
    assert not is_replay(answers[1])
    assert (orders(), "kept" in states()) == (0, False)


@commits
@pytest.mark.parametrize(("status", "noted"), [(409, []), (503, ["RuntimeError"])])
def test_crash_is_noted_if_the_final_answer_says_so(
    status: int, noted: list[str]
) -> None:
    send(signed_in(), f"/Tidy/{status}/")

    errors = IdempotencyRecord.objects.values_list("last_error", flat=True)
    assert [error.rpartition(".")[2] for error in errors] == noted


@commits
@pytest.mark.parametrize("view", ["KeepingTidy", "KeepingTidyBelow"])
def test_kept_error_is_judged_by_the_final_answer(view: str, either_way: bool) -> None:
    client = signed_in()
    kept = send_twice(client, f"/{view}/409/")
    released = send_twice(client, f"/{view}/503/")

    assert [is_replay(each) for each in kept + released] == [False, True, False, False]
    assert (kept[1].status_code, kept[1].content) == (409, kept[0].content)
    assert orders() == 0


# Problems by the project's exception handler


def tried_again(view: Any) -> Any:
    @wraps(view)
    def call(request: Request) -> Any:
        try:
            return view(request)
        except TimeoutError:
            return view(request)

    return call


def in_an_envelope(view: Any) -> Any:
    @wraps(view)
    def call(request: Request) -> Response:
        return Response({"data": view(request).data}, status=202)

    return call


def refusing_afterwards(view: Any) -> Any:
    @wraps(view)
    def call(request: Request) -> Any:
        view(request)
        raise PermissionDenied

    return call


@commits
@cases(
    "decorate, how, status, content",
    {
        "again": (tried_again, "late", 201, {"how": "late"}),
        "again, refused": (
            tried_again,
            "validation",
            400,
            [str(ValidationError.default_detail)],
        ),
        "envelope": (in_an_envelope, "right", 202, {"data": {"how": "right"}}),
        "afterwards": (
            refusing_afterwards,
            "right",
            403,
            {"detail": str(PermissionDenied.default_detail)},
        ),
    },
)
def test_decorator_above_may_answer_in_its_own_way(
    decorate: Any, how: str, status: int, content: Any, rf: Any
) -> None:
    """What we have finished is left as it is, and nothing else."""
    tries = []

    def perform(request: Request) -> Response:
        tries.append(request)
        if decorate is tried_again and len(tries) == 1:
            raise TimeoutError
        return audit(request)

    request = rf.post("/", {"how": how}, headers={"Idempotency-Key": KEY})
    answer = POST(decorate(idempotent(perform)))(request)

    assert (answer.status_code, answer.render().data) == (status, content)
    assert orders() == (status < 400 or decorate is refusing_afterwards)


def in_its_words(error: Exception, context: Any) -> Response | None:
    if not isinstance(error, RequestRefused):
        return exception_handler(error, context)
    said = {"oops": error.get_codes(), "at": context["view"].request.path}
    return Response({**said, "was": error.problem["status"]}, status=418)


@commits
@pytest.mark.parametrize("path", PROTECTED)
def test_problem_is_answered_by_the_exception_handler(
    path: str, settings: Any, either_way: bool
) -> None:
    """Also one that is found after the claim; what was done before stays."""
    settings.IDEMPOTENCY_PROBLEM_RESPONSE = (
        "django_idempotency.rest_framework.problem_response"
    )
    settings.REST_FRAMEWORK = {"EXCEPTION_HANDLER": f"{__name__}.in_its_words"}
    client = signed_in()
    answers = [
        send(client, path, {"how": how}, key=key)
        for how, key in (("right", None), ("right", KEY), ("left", KEY), ("right", KEY))
    ]

    assert [each.status_code for each in answers] == [418, 201, 418, 201]
    assert [each.json().get("was") for each in answers] == [400, None, 422, None]
    assert answers[2].json() == {"oops": "key-reused", "at": path, "was": 422}
    assert "Idempotency-Reference" in answers[2].headers
    assert (orders(), states()) == (1, ["kept"])


@commits
def test_handler_that_answers_nothing_leaves_the_answer_to_us(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.IDEMPOTENCY_PROBLEM_RESPONSE = (
        "django_idempotency.rest_framework.problem_response"
    )
    settings.REST_FRAMEWORK = {"EXCEPTION_HANDLER": f"{__name__}.nothing"}
    response = send(signed_in(), "/mixin/", {}, key=None)

    assert (response.status_code, response.json()["code"]) == (400, "key-missing")
    assert "can't answer the problem key-missing" in caplog.text


def nothing(error: Exception, context: Any) -> None:
    return None
