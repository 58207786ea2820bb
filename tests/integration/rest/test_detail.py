"""On the route of one object: what the first call itself took away hinders no repeat.

Whatever was taken away by anybody later does. A table says what each change does to an
order, and a function what somebody who asks for the order is told.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.test.utils import CaptureQueriesContext
from django.urls import path
from rest_framework.decorators import action
from rest_framework.generics import CreateAPIView, GenericAPIView
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet

from django_idempotency.decorators import idempotent
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.packaging.readme import ROOT
from tests.support.cases import cases
from tests.support.ordering import is_replay
from tests.support.records import states
from tests.testapp.models import Order

from .exchange import OrderSerializer, send, send_twice, signed_in

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("db")]

ARCHIVED, LOOKED, CLOSED = -1, 50, 100

CHANGES: dict[str, Callable[[QuerySet[Order]], object]] = {
    "nothing": lambda orders: orders.update(amount=1),
    "deletes": lambda orders: orders.delete(),
    "archives": lambda orders: orders.update(amount=ARCHIVED),
    "closes": lambda orders: orders.update(amount=CLOSED),
    "gives-away": lambda orders: orders.update(reference="eve"),
}


def refusal(order: Order | None) -> str:
    """What ada is told who asks for it; nothing, if she gets it."""
    if order is None or order.amount == ARCHIVED:
        return "404"
    if order.reference != "ada":
        return "403"
    return "403 closed" if order.amount == CLOSED else ""


class Owns(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        return not request.user.is_staff

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        return bool(obj.reference == request.user.username)


class IsOpen(BasePermission):
    code = "closed"

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        return bool(obj.amount != CLOSED)


class Acting(GenericAPIView[Order]):
    """Fetches its object, and does to it what the payload says."""

    permission_classes = [Owns, IsOpen]
    serializer_class = OrderSerializer
    looks: ClassVar[list[Any]] = []

    def get_queryset(self) -> QuerySet[Order]:
        return Order.objects.exclude(amount=ARCHIVED)

    def get_object(self) -> Order:
        self.looks.append(self)
        return super().get_object()

    def act(self, request: Request, **names: Any) -> Response:
        order = self.get_object()
        wish: Any = request.data
        CHANGES[wish["do"]](Order.objects.filter(pk=order.pk))
        return Response({"done": order.pk}, status=wish.get("status", 200))


class Viewset(Acting, ModelViewSet[Order]): ...


class Orders(IdempotencyMixin, Viewset): ...


class Locked(Orders):
    def get_queryset(self) -> QuerySet[Order]:
        return super().get_queryset().select_for_update()


class Renamed(Orders):
    lookup_field, lookup_url_kwarg = "id", "pk"


class Leased(Orders):
    idempotency_policy = IdempotencyPolicy(lease=timedelta(minutes=1))


class Decorated(Viewset):
    @idempotent
    def act(self, request: Request, **names: Any) -> Response:
        return super().act(request)


class ByTwoNames(Acting):
    """Looks its object up as the framework's documentation shows for several names."""

    def get_object(self) -> Order:
        self.looks.append(self)
        number, top = self.kwargs["number"], self.kwargs["top"]
        orders = self.get_queryset().filter(amount__lte=top)
        found: Order = get_object_or_404(orders, pk=number)
        self.check_object_permissions(self.request, found)
        return found


class MixedByTwoNames(IdempotencyMixin, ByTwoNames):
    def post(self, request: Request, **names: Any) -> Response:
        return self.act(request)


class DecoratedByTwoNames(ByTwoNames):
    @idempotent
    def post(self, request: Request, **names: Any) -> Response:
        return self.act(request)


class Strict(Orders):
    """It saves the question, and lives with a 404 for what it has taken away."""

    idempotency_check_at_end = False


class StrictByTwoNames(MixedByTwoNames):
    idempotency_check_at_end = False


class Opened(Orders):
    def check_replay(self, request: Request) -> None:
        """The author of this view knows better."""


class OutOfOrder(Exception): ...


class Breaking(Orders):
    """Looks are written down, and one at an order that was paid goes wrong."""

    permission_classes = []

    def get_object(self) -> Order:
        found = super().get_object()
        Order.objects.create(amount=LOOKED)
        if found.amount == CLOSED:
            raise OutOfOrder
        if found.reference == "eve":
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM no_such_table")
        return found


class Placing(CreateAPIView[Order]):
    queryset = Order.objects.all()
    serializer_class = OrderSerializer


class WithArgument(APIView):
    """As in the framework's tutorial."""

    def get_object(self, pk: int) -> Order:
        return Order.objects.create()

    def post(self, request: Request, **names: Any) -> Response:
        return Response({"id": self.get_object(7).pk}, status=201)


def listed(*bases: type[Any], **how: Any) -> Any:
    view: Any = type("Listed", (IdempotencyMixin, *bases), {})
    return view.as_view(**how)


LISTS = {
    "create": listed(Placing),
    "two-names": listed(ByTwoNames, Placing),
    "argument": listed(WithArgument),
    "viewset": listed(Viewset, actions={"post": "create"}),
    "router": listed(Viewset, actions={"post": "create"}, detail=False),
}
ACT: Any = dict.fromkeys(("post", "put", "patch", "delete"), "act")
VIEWSETS = (Orders, Locked, Renamed, Leased, Decorated, Strict, Opened, Breaking)
BY_TWO_NAMES = (MixedByTwoNames, DecoratedByTwoNames, StrictByTwoNames)
urlpatterns = [
    *(
        path(f"{view.__name__}/<int:pk>/", view.as_view(ACT, detail=True))
        for view in VIEWSETS
    ),
    *(
        path(f"{view.__name__}/<int:top>/<int:number>/", view.as_view())
        for view in BY_TWO_NAMES
    ),
    *(path(f"{name}/<int:cart>/items/", view) for name, view in LISTS.items()),
    *(path(f"{name}/<int:pk>/others/", view) for name, view in LISTS.items()),
]


def route_of(name: str) -> str:
    return f"/{name}/500/{{}}/" if "TwoNames" in name else f"/{name}/{{}}/"


def asked(
    name: str, does: str, *, method: str = "post", status: int = 200
) -> tuple[Any, Callable[[], Any]]:
    """Ask ada's order to be changed; return the answer, and a function that repeats."""
    order, client = Order.objects.create(reference="ada"), signed_in("ada")
    url, wish = route_of(name).format(order.pk), {"do": does, "status": status}

    def send_it() -> Any:
        return send(client, url, wish, method=method)

    return send_it(), send_it


@pytest.mark.parametrize("later", CHANGES)
@pytest.mark.parametrize("does", CHANGES)
@cases(
    "name, method, status",
    {
        "mixin": ("Orders", "post", 200),
        "patch": ("Orders", "patch", 200),
        "delete": ("Orders", "delete", 200),
        "conflict": ("Orders", "post", 409),
        "locked": ("Locked", "post", 200),
        "renamed": ("Renamed", "post", 200),
        "leased": ("Leased", "post", 200),
        "leased-conflict": ("Leased", "post", 409),
        "decorated": ("Decorated", "post", 200),
        "two-names": ("MixedByTwoNames", "post", 200),
        "two-names-decorated": ("DecoratedByTwoNames", "post", 200),
    },
)
def test_repeat_is_refused_only_for_what_the_first_call_did_not_take_away(
    name: str, method: str, status: int, does: str, later: str
) -> None:
    """FR-065. What is lost is what somebody is refused who could have it afterwards."""
    first, repeat = asked(name, does, method=method, status=status)
    assert (first.status_code, list(first.json())) == (status, ["done"])
    of_first_call = refusal(Order.objects.first())
    CHANGES[later](Order.objects.all())
    now = refusal(Order.objects.first())
    again = repeat()

    if now in ("", of_first_call):
        assert (again.content, is_replay(again)) == (first.content, True)
    else:
        assert (str(again.status_code), is_replay(again)) == (now[:3], False)
        assert b"done" not in again.content


@pytest.mark.parametrize("does", CHANGES)
@pytest.mark.parametrize("name", ["Orders", "Strict", "StrictByTwoNames", "Opened"])
def test_view_chooses_what_is_asked_but_for_its_own_permissions(
    name: str, does: str
) -> None:
    _, repeat = asked(name, does)
    strictly = refusal(Order.objects.first())[:3] or "200"
    expected = strictly if "Strict" in name else "200"
    assert str(repeat().status_code) == expected

    User.objects.update(is_staff=True)
    assert repeat().status_code == 403


@pytest.mark.parametrize("does", ["nothing", "closes", "gives-away"])
def test_question_undoes_nothing_and_leaves_nothing_and_an_error_in_it_lets_nobody_pass(
    does: str, either_way: bool, caplog: pytest.LogCaptureFixture
) -> None:
    first, repeat = asked("Breaking", does)
    has_failed = "at the end of a first call" in caplog.text

    assert (first.status_code, has_failed) == (200, does != "nothing")
    assert Order.objects.filter(amount=LOOKED).count() == 1
    assert repeat().status_code == (500 if has_failed else 200)
    assert states() == ["kept"]


def test_question_takes_four_statements() -> None:
    order, client = Order.objects.create(reference="ada"), signed_in("ada")
    verbs = []
    for name in ("Strict", "Orders"):
        with CaptureQueriesContext(connection) as queries:
            send(client, route_of(name).format(order.pk), {"do": "nothing"})
        verbs.append([each["sql"].split(" ")[0] for each in queries])
    without, with_question = verbs

    assert with_question[:-2] == [
        *without[:-2],
        *("SAVEPOINT", "SELECT", "ROLLBACK", "RELEASE"),
    ]


@pytest.mark.parametrize("method", ["put", "delete"])
def test_call_without_a_key_is_asked_nothing(method: str) -> None:
    order, client = Order.objects.create(reference="ada"), signed_in("ada")
    Acting.looks.clear()
    wish = {"do": "nothing"}
    response = send(client, f"/Orders/{order.pk}/", wish, method=method, key=None)

    assert (response.status_code, len(Acting.looks)) == (200, 1)


@pytest.mark.parametrize("route", ["items", "others"])
@pytest.mark.parametrize("name", LISTS)
def test_repeat_on_a_list_route_is_replayed_and_asks_for_no_object(
    name: str, route: str
) -> None:
    """Even if the list is below an object that has the same name in the route."""
    Acting.looks.clear()
    first, again = send_twice(signed_in(), f"/{name}/7/{route}/", {"amount": 1})

    assert (first.status_code, again.content) == (201, first.content)
    assert (is_replay(again), Acting.looks) == (True, [])


def test_state_is_a_matter_of_the_handler() -> None:
    """As the page about access has it."""
    page = (ROOT / "docs/explanation/access.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {"IsOwner": Owns, "action": action, **globals()}
    exec(page.split("```python\n")[1].split("```")[0], names)  # noqa: S102 - our own page
    view = names["OrderViewSet"].as_view({"post": "pay"}, detail=True)
    order, ada = Order.objects.create(reference="ada", amount=3), User(username="ada")
    ada.save()
    answers = []
    for letter in "aab":
        request = APIRequestFactory().post(
            "/", headers={"Idempotency-Key": letter * 30}
        )
        force_authenticate(request, ada)
        answers.append(view(request, pk=order.pk))

    assert [each.status_code for each in answers] == [200, 200, 409]
    assert [is_replay(each) for each in answers] == [False, True, False]
