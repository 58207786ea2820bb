"""What other decorators and Django read off a view is still there (FR-101)."""

import pytest
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from django_idempotency.decorators import idempotent
from tests.support.ordering import orders

from .conftest import customer
from .placement import Placement, order
from .plain_views import OrderView

pytestmark = [
    pytest.mark.urls("tests.integration.placements.urls"),
    pytest.mark.usefixtures("db"),
]
EXEMPT = {
    "below-csrf-exempt",
    "above-csrf-exempt",
    "dispatch-below-csrf-exempt",
    "as-view-below-csrf-exempt",
}


def applies_to(placement: Placement) -> bool:
    return placement.refuses_anonymous is None and "api-view" not in placement.name


def test_csrf_is_checked_where_it_was_and_nowhere_else(placement: Placement) -> None:
    ada = customer()
    ada.client.handler.enforce_csrf_checks = True
    response = ada.post(placement.path)
    # Ninja's views are exempt: its authentication by cookies has a check of its own.
    is_exempt = placement.name in EXEMPT or placement.name.startswith("ninja-")

    assert (response.status_code, orders()) == ((201, 1) if is_exempt else (403, 0))


def test_name_and_documentation_are_the_views_own() -> None:
    protected = idempotent(order)

    assert (protected.__name__, protected.__doc__) == (order.__name__, order.__doc__)
    assert protected.__module__ == order.__module__


NAMES = ("view", "policy", "function", "call", "run", "operation", "steps", "handler")


def told_by_route(request: HttpRequest, **route: str) -> HttpResponse:
    return HttpResponse(",".join(route))


class ToldByRoute(View):
    def post(self, request: HttpRequest, **route: str) -> HttpResponse:
        return told_by_route(request, **route)


urlpatterns = [
    path(f"{name}/<str:{name}>/{kind}/", view)
    for name in NAMES
    for kind, view in (
        ("function", idempotent(told_by_route)),
        ("class", idempotent(ToldByRoute.as_view())),
        ("method", method_decorator(idempotent, name="post")(ToldByRoute).as_view()),
    )
]


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("kind", ["function", "class", "method"])
@pytest.mark.parametrize("name", NAMES)
def test_route_may_name_its_parts_as_it_likes(name: str, kind: str) -> None:
    response = customer().post(f"/{name}/x/{kind}/")

    assert (response.status_code, response.content) == (200, name.encode())


def test_view_class_and_initkwargs_are_those_of_as_view() -> None:
    plain = OrderView.as_view()
    protected = idempotent(OrderView.as_view())

    assert protected.view_class is OrderView  # type: ignore[attr-defined]
    assert protected.view_initkwargs == plain.view_initkwargs  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "decorate",
    [never_cache, csrf_exempt, csrf_protect, login_required, transaction.atomic],
    ids=lambda decorate: decorate.__name__,
)
def test_django_opens_no_transaction_of_its_own_around_a_decorated_view(
    decorate: type,
) -> None:
    view = decorate(idempotent(order))

    assert "default" in view._non_atomic_requests


def test_other_databases_named_by_the_view_stay_named() -> None:
    @transaction.non_atomic_requests(using="other")
    @idempotent
    @transaction.non_atomic_requests(using="third")
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    named = view._non_atomic_requests  # type: ignore[attr-defined]
    aliases = ("default", "other", "third", "fourth")
    assert [each in named for each in aliases] == [True, True, True, False]
