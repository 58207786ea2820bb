"""Authentication, permissions and throttles speak before any replay."""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.urls import include, path
from rest_framework.authentication import TokenAuthentication
from rest_framework.decorators import (
    api_view,
    authentication_classes,
    permission_classes,
    throttle_classes,
)
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient
from rest_framework.throttling import BaseThrottle, SimpleRateThrottle
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet

from django_idempotency.decorators import idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from tests.support.ordering import is_replay, orders
from tests.support.records import states
from tests.testapp.models import Order

from .exchange import (
    KEY,
    OrderSerializer,
    OrderView,
    order,
    send,
    send_twice,
    signed_in,
    user,
)

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("db")]


class OpenOrders(IdempotencyMixin, ModelViewSet[Order]):
    queryset = Order.objects.all()
    serializer_class = OrderSerializer


class OncePerMinute(SimpleRateThrottle):
    scope = "orders"
    rate = "1/min"

    def get_cache_key(self, request: Request, view: APIView) -> str:
        return f"throttle-{view.request.path}"


class Counting(BaseThrottle):
    asked: ClassVar[list[str]] = []

    def allow_request(self, request: Request, view: APIView) -> bool:
        self.asked.append(request.path)
        return True


class Counted(IdempotencyMixin, OrderView):
    throttle_classes = [Counting]


class Throttled(IdempotencyMixin, OrderView):
    throttle_classes = [OncePerMinute]


def below(throttle: type[BaseThrottle]) -> Callable[..., Any]:
    return api_view(["POST"])(throttle_classes([throttle])(idempotent(order)))


class UserToken(TokenAuthentication):
    """The token is in a column of the user; emptying that deletes it."""

    def authenticate_credentials(self, key: str) -> tuple[User, str]:
        found = User.objects.filter(last_name=key, is_active=True).first()
        if found is None:
            raise AuthenticationFailed
        return found, key


def order_by_user(request: Request, /) -> Response:
    made = Order.objects.create()
    return Response({"order": made.pk, "by": request.user.username}, status=201)


class ByToken(IdempotencyMixin, APIView):
    authentication_classes = [UserToken]
    permission_classes = [IsAuthenticated]

    def post(self, request: Request) -> Response:
        return order_by_user(request)


signed_in_by_token = authentication_classes([UserToken])
only_users = permission_classes([IsAuthenticated])


class _Lazy(APIView):
    """As REST framework allows: the user is asked for when somebody wants it."""

    authentication_classes = [UserToken]
    permission_classes = [AllowAny]

    def perform_authentication(self, request: Request) -> None:
        pass


class Lazy(IdempotencyMixin, _Lazy):
    def post(self, request: Request) -> Response:
        return order_by_user(request)


class LazyBelow(_Lazy):
    @idempotent
    def post(self, request: Request) -> Response:
        return order_by_user(request)


router = SimpleRouter()
router.register("open", OpenOrders, basename="open")
urlpatterns = [
    path("", include(router.urls)),
    path("token/", ByToken.as_view()),
    path(
        "token-below/",
        api_view(["POST"])(signed_in_by_token(only_users(idempotent(order_by_user)))),
    ),
    path("lazy/", Lazy.as_view()),
    path("lazy-below/", LazyBelow.as_view()),
    path("counting/", Counted.as_view()),
    path("counting-below/", below(Counting)),
    path("throttled/", Throttled.as_view()),
    path("throttled-below/", below(OncePerMinute)),
]


@pytest.fixture(autouse=True)
def fresh_cache() -> Iterator[None]:
    cache.clear()
    Counting.asked.clear()
    yield
    cache.clear()


def test_repeated_delete_is_replayed_with_as_little_as_the_first() -> None:
    client, pk = signed_in(), Order.objects.create().pk
    first, again = send_twice(client, f"/open/{pk}/", method="delete")

    assert (first.status_code, again.status_code) == (204, 204)
    assert again.content == b""
    assert again.headers.get("Content-Type") == first.headers.get("Content-Type")


@pytest.mark.parametrize("path", ["/throttled/", "/throttled-below/"])
def test_replays_count_against_the_throttle(path: str) -> None:
    """FR-041: 429 for the repeat, as for any request."""
    first, refused = send_twice(signed_in(), path)

    assert (first.status_code, refused.status_code) == (201, 429)
    assert not is_replay(refused)


@pytest.mark.parametrize("path", ["/throttled/", "/throttled-below/"])
def test_throttled_first_call_leaves_the_key_free(path: str) -> None:
    """FR-041."""
    client = signed_in()
    send(client, path, key="another")
    refused = send(client, path)
    cache.clear()  # the minute is over
    done = send(client, path)

    assert (refused.status_code, done.status_code) == (429, 201)
    assert (orders(), states()) == (2, ["kept", "kept"])


@pytest.mark.parametrize("path", ["/counting/", "/counting-below/"])
def test_throttle_is_asked_once_per_request(path: str) -> None:
    send_twice(signed_in(), path)

    assert Counting.asked == [path, path]


# The methods of a route, beside POST and the safe ones in `placements`


@pytest.mark.parametrize("method", ["put", "patch"])
def test_repeated_change_is_replayed_and_not_made_again(method: str) -> None:
    changed = Order.objects.create(amount=1)
    client = signed_in()
    first = send(client, f"/open/{changed.pk}/", {"amount": 2}, method=method)
    Order.objects.update(amount=3)  # somebody else, meanwhile
    again = send(client, f"/open/{changed.pk}/", {"amount": 2}, method=method)

    assert (first.status_code, again.content) == (200, first.content)
    assert is_replay(again)
    changed.refresh_from_db()
    assert changed.amount == 3


@pytest.mark.parametrize(
    ("method", "status"), [("put", 200), ("patch", 400), ("delete", 204)]
)
def test_only_post_and_patch_need_a_key(method: str, status: int) -> None:
    changed = Order.objects.create()
    response = send(
        signed_in(), f"/open/{changed.pk}/", {"amount": 2}, method=method, key=None
    )

    assert (response.status_code, states()) == (status, [])


def test_options_describes_the_actions_as_without_us() -> None:
    described = signed_in().options("/open/").json()

    assert set(described["actions"]["POST"]) == {"id", "amount"}


# Authentication: whoever could not make the request gets no replay of it

token_views = pytest.mark.parametrize("path", ["/token/", "/token-below/"])
lazy_views = pytest.mark.parametrize("path", ["/lazy/", "/lazy-below/"])


def with_token(username: str) -> APIClient:
    owner = user(username)
    owner.last_name = f"token-of-{username}"
    owner.save()
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Token {owner.last_name}")
    return client


@pytest.mark.parametrize(
    "lost",
    [{"last_name": ""}, {"is_active": False}],
    ids=["deleted-token", "deactivated-user"],
)
@token_views
def test_user_gets_replays_as_long_as_the_token_is_good(
    path: str, lost: dict[str, Any]
) -> None:
    """FR-065."""
    client = with_token("ada")
    first, again = (send(client, path) for _ in range(2))
    User.objects.update(**lost)
    refused = send(client, path)

    assert (first.status_code, again.content) == (201, first.content)
    assert (is_replay(again), orders()) == (True, 1)
    assert (refused.status_code, is_replay(refused)) == (401, False)
    assert refused.headers["WWW-Authenticate"] == "Token"


@token_views
def test_renewed_token_of_the_same_user_gets_the_replay(path: str) -> None:
    """The scope is the user, not what he signs in with."""
    first = send(with_token("ada"), path)
    User.objects.update(last_name="another")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION="Token another")

    assert send(client, path).content == first.content


@lazy_views
def test_two_users_who_are_asked_for_lazily_get_an_answer_each(path: str) -> None:
    """FR-062."""
    answers = [send(with_token(name), path) for name in ("ada", "eve")]

    assert [each.json()["by"] for each in answers] == ["ada", "eve"]
    assert not any(is_replay(each) for each in answers)
    assert orders() == 2


@lazy_views
def test_lazily_authenticated_user_is_no_guest(path: str) -> None:
    """A guessable key is his own business."""
    answers = [send(with_token("ada"), path, key="1") for _ in range(2)]

    assert [each.status_code for each in answers] == [201, 201]
    assert orders() == 1


@token_views
@pytest.mark.parametrize("key", [KEY, "", None], ids=["key", "bad-key", "no-key"])
def test_unauthenticated_first_call_is_refused_before_the_key_is_looked_at(
    path: str, key: str | None
) -> None:
    """FR-041."""
    response: Any = send(APIClient(), path, key=key)

    assert response.status_code == 401
    assert "code" not in response.json()
    assert (orders(), states()) == (0, [])
