"""Authentication, permissions and throttles speak before any replay."""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db.models import QuerySet
from django.urls import include, path
from rest_framework.authentication import TokenAuthentication
from rest_framework.decorators import (
    action,
    api_view,
    authentication_classes,
    permission_classes,
    throttle_classes,
)
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import AllowAny, BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.test import APIClient
from rest_framework.throttling import BaseThrottle, SimpleRateThrottle
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
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


class Owns(BasePermission):
    """An order belongs to whoever its reference names."""

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        return bool(obj.reference == request.user.username)


class _Orders(ModelViewSet[Order]):
    queryset = Order.objects.all()
    serializer_class = OrderSerializer
    permission_classes = [Owns]

    def charge(self, request: Request, pk: str) -> Response:
        order = self.get_object()
        order.amount += 1
        order.save()
        return Response({"paid": order.amount})


class Orders(IdempotencyMixin, _Orders):
    @action(detail=True, methods=["post"])
    def pay(self, request: Request, pk: str) -> Response:
        return self.charge(request, pk)


class OpenOrders(IdempotencyMixin, ModelViewSet[Order]):
    queryset = Order.objects.all()
    serializer_class = OrderSerializer


class DecoratedOrders(_Orders):
    @action(detail=True, methods=["post"])
    @idempotent
    def pay(self, request: Request, pk: str) -> Response:
        return self.charge(request, pk)


class LockedOrders(Orders):
    """Its rows are locked for the view, which only works in a transaction."""

    def get_queryset(self) -> QuerySet[Order]:
        return Order.objects.select_for_update()


class OpenedOrders(Orders):
    def check_replay(self, request: Request) -> None:
        """The author of this view knows better."""


class ByReference(Orders):
    lookup_field = "reference"
    lookup_url_kwarg = "name"


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
router.register("orders", Orders, basename="orders")
router.register("decorated", DecoratedOrders, basename="decorated")
router.register("locked", LockedOrders, basename="locked")
router.register("opened", OpenedOrders, basename="opened")
router.register("named", ByReference, basename="named")
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


def order_of(username: str) -> Order:
    user(username)
    return Order.objects.create(reference=username)


@pytest.mark.parametrize("prefix", ["orders", "decorated", "locked"])
def test_replay_is_its_owners_as_long_as_the_object_is(
    prefix: str, either_way: bool
) -> None:
    """FR-065: asked anew for each replay, and a refusal leaves the record good."""
    path = f"/{prefix}/{order_of('ada').pk}/pay/"
    client = signed_in("ada")
    first, again = send_twice(client, path)
    Order.objects.update(reference="eve")
    refused = send(client, path)
    Order.objects.update(reference="ada")
    granted = send(client, path)

    assert (first.status_code, first.json()) == (200, {"paid": 1})
    assert [each.content for each in (again, granted)] == [first.content] * 2
    assert [is_replay(each) for each in (again, granted)] == [True, True]
    assert (refused.status_code, is_replay(refused)) == (403, False)
    assert b"paid" not in refused.content
    assert IdempotencyRecord.objects.get().replays == 2


@pytest.mark.parametrize(
    ("prefix", "status"), [("orders", 404), ("decorated", 404), ("opened", 200)]
)
def test_object_that_is_gone_is_not_found_on_replay(prefix: str, status: int) -> None:
    """FR-065: unless the author of the view knows better."""
    path = f"/{prefix}/{order_of('ada').pk}/pay/"
    client = signed_in("ada")
    send(client, path)
    Order.objects.all().delete()
    again = send(client, path)

    assert (again.status_code, is_replay(again)) == (status, status == 200)


def test_lookup_by_another_url_argument_asks_for_the_object() -> None:
    order = order_of("ada")
    client = signed_in("ada")
    first = send(client, "/named/ada/", {"amount": 5}, method="patch")
    order.delete()

    assert first.status_code == 200
    assert send(client, "/named/ada/", {"amount": 5}, method="patch").status_code == 404


def test_repeated_delete_is_replayed_although_the_object_is_gone() -> None:
    order = order_of("ada")
    client = signed_in("ada")
    first, again = send_twice(client, f"/orders/{order.pk}/", method="delete")

    assert (first.status_code, again.status_code) == (204, 204)
    assert is_replay(again)
    assert again.content == b""
    assert "Content-Type" not in again.headers or first.headers.get("Content-Type")


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
