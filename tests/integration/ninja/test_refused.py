"""What would not be protected is refused at import, with the lines to write."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import wraps
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import RequestFactory, override_settings
from django.urls import path
from ninja import Router
from ninja.decorators import decorate_view

from django_idempotency import decorators
from django_idempotency.checks.urls import check_placements
from django_idempotency.contrib.ninja import idempotent
from django_idempotency.policies import IdempotencyPolicy
from tests.support.cases import cases
from tests.support.ordering import orders, send, signed_in_client, word

from .exchange import Placed, Wish, api_of, deprecated_tuples, new_api, place, serving

leased: Any = idempotent(lease=timedelta(minutes=1))
plain: Any = decorators.idempotent

RIGHT = '@api.post("/…")\n    @idempotent\n    def operation(request, …):'


def operation(request: HttpRequest, wish: Wish) -> Any:
    return place(request, wish)


def fresh(decorate: Callable[..., Any] = lambda view: view) -> Any:
    """A function that no API knows yet."""

    def operation(request: HttpRequest, wish: Wish) -> Any:
        return place(request, wish)

    return decorate(operation)


def generator(request: HttpRequest) -> Iterator[int]:
    yield 1


async def async_generator(request: HttpRequest) -> Any:
    yield 1


async def async_operation(request: HttpRequest) -> Any: ...


def logged(view: Any) -> Any:
    @wraps(view)
    def log(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    return log


def decorated_api(decorator: Any, mode: Any) -> Any:
    api = api_of(fresh())
    api.add_decorator(decorator, mode=mode)
    return api.urls


def decorated_router(decorator: Any, mode: Any) -> Any:
    api, router = new_api(), Router()
    router.post("/")(fresh())
    router.add_decorator(decorator, mode=mode)
    api.add_router("", router)
    return api.urls


DECORATORS = {"plain": plain, "ninja": idempotent}
MISPLACED: dict[str, tuple[Callable[[], Any], str]] = {
    "plain below": (lambda: api_of(fresh(plain)), RIGHT),
    "plain with options below": (lambda: api_of(fresh(plain(required=False))), RIGHT),
    "plain below a decorator": (lambda: api_of(logged(fresh(plain))), RIGHT),
    "plain inside": (lambda: fresh(lambda view: idempotent(plain(view))), "twice"),
    "ninja twice": (lambda: fresh(lambda view: idempotent(idempotent(view))), "twice"),
    "class": (lambda: idempotent(type("Orders", (), {})), '@route.post("/…")'),
    "generator": (lambda: idempotent(generator), "return lines_of(order)"),
    "async generator": (lambda: leased(async_generator), "return lines_of(order)"),
    "generator behind a decorator": (
        lambda: idempotent(logged(logged(generator))),
        "return lines_of(order)",
    ),
    "async generator behind a decorator": (
        lambda: leased(logged(async_generator)),
        "return lines_of(order)",
    ),
    "async": (lambda: idempotent(async_operation), "lease=timedelta(minutes=1)"),
    "access check below": (
        lambda: idempotent(login_required(operation)),
        "auth=django_auth",
    ),
    "policy and options": (
        lambda: idempotent(policy=IdempotencyPolicy(), required=False),
        "not both",
    ),
    **{
        f"{name} {what}": (partial_, RIGHT)
        for name, decorator in DECORATORS.items()
        for what, partial_ in {
            "above": lambda decorator=decorator: decorator(_registered()),
            "decorate_view below": lambda decorator=decorator: api_of(
                decorate_view(decorator)(fresh())
            ),
            "decorate_view above": lambda decorator=decorator: decorate_view(decorator)(
                _registered()
            ),
            "decorate_view around another": lambda decorator=decorator: api_of(
                decorate_view(logged, decorator)(fresh())
            ),
            "api, views": lambda decorator=decorator: decorated_api(decorator, "view"),
            "api, operations": lambda decorator=decorator: decorated_api(
                decorator, "operation"
            ),
            "router": lambda decorator=decorator: decorated_router(
                decorator, "operation"
            ),
        }.items()
    },
}


def _registered() -> Any:
    function = fresh()
    api_of(function)
    return function


@cases("misplace, line", MISPLACED)
def test_misplaced_protection_is_refused_with_the_lines(
    misplace: Callable[[], Any], line: str
) -> None:
    with pytest.raises(ImproperlyConfigured) as refusal:
        misplace()

    assert line in str(refusal.value)


def test_async_stream_of_ninjas_own_is_refused() -> None:
    streaming = pytest.importorskip("ninja.streaming")

    with pytest.raises(ImproperlyConfigured, match="StreamingHttpResponse"):
        api_of(leased(async_operation), response=streaming.JSONL[Placed])


@pytest.mark.django_db
@cases(
    "call",
    {
        "sync": lambda request: idempotent(place)(request, Wish()),
        "async": lambda request: async_to_sync(leased(async_operation))(request),
    },
)
def test_operation_that_ninja_did_not_call_is_refused(call: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="called by something else"):
        call(RequestFactory().post("/"))

    assert orders() == 0


@deprecated_tuples
@pytest.mark.usefixtures("db")
def test_operation_that_a_decorator_calls_first_takes_no_other_ones_key() -> None:
    """Or the key would get its answer, and the operation itself never be run."""
    other = idempotent(place)

    def after_the_other(view: Any) -> Any:
        @wraps(view)
        def call(request: HttpRequest, **values: Any) -> Any:
            other(request, Wish())
            return view(request, **values)

        return call

    operation = fresh(lambda view: after_the_other(idempotent(view)))
    refused = pytest.raises(ImproperlyConfigured, match="called by something else")
    with serving(api_of(operation)), refused:
        send(signed_in_client(), "/")

    assert orders() == 0


@deprecated_tuples
@pytest.mark.usefixtures("db")
def test_operation_called_by_a_protected_view_belongs_to_that_one() -> None:
    inner = idempotent(place)

    def view(request: HttpRequest) -> HttpResponse:
        status, content = inner(request, Wish())
        return JsonResponse(content, status=status)

    urls = type("Urls", (), {"urlpatterns": [path("", plain(view))]})
    with override_settings(ROOT_URLCONF=urls):
        client = signed_in_client()
        words = [word(send(client, "/")) for _ in range(2)]

    assert (words, orders()) == (["201", "201 replayed"], 1)


@cases(
    "operation, expected",
    {
        "right": (lambda: idempotent(fresh()), []),
        "keeps errors": (lambda: idempotent(keep_errors=True)(fresh()), []),
        "unknown below": (
            lambda: idempotent(logged(fresh())),
            ["django_idempotency.W029"],
        ),
    },
)
def test_check_looks_at_operations_as_at_views(
    operation: Callable[[], Any], expected: list[str]
) -> None:
    with serving(api_of(operation())):
        assert [message.id for message in check_placements(None)] == expected


@cases("lease, expected", {"atomic": (None, "W025"), "leased": (timedelta(1), "E027")})
def test_check_says_that_atomic_requests_is_around(
    lease: timedelta | None, expected: str, atomic_requests: None
) -> None:
    with serving(api_of(idempotent(lease=lease)(fresh()))):
        (message,) = check_placements(None)

    assert message.id == f"django_idempotency.{expected}"
    assert '"ATOMIC_REQUESTS": False' in str(message.hint)
