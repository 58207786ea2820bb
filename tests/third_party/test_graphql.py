"""Views of graphene and strawberry, which work in `dispatch()` and have no handlers."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import graphene
import pytest
import strawberry
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.urls import path
from django.utils.decorators import method_decorator
from graphene_django.views import GraphQLView
from strawberry.django.views import AsyncGraphQLView
from strawberry.django.views import GraphQLView as StrawberryView

from django_idempotency.decorators import idempotent
from tests.support.cases import cases
from tests.support.ordering import GUEST_KEY, orders, send, signed_in_client, word
from tests.testapp.models import Order

MUTATION = json.dumps({"query": "mutation { pay { order } }"})


class Pay(graphene.Mutation):
    order = graphene.Int()

    @staticmethod
    def mutate(root: Any, info: Any) -> "Pay":
        return Pay(order=Order.objects.create().pk)


class Mutations(graphene.ObjectType):
    pay = Pay.Field()


class Queries(graphene.ObjectType):
    ping = graphene.String()


@strawberry.type
class Paid:
    order: int

    def __init__(self, order: int) -> None:
        self.order = order


@strawberry.type
class StrawberryMutations:
    @strawberry.mutation
    def pay(self) -> Paid:
        return Paid(order=Order.objects.create().pk)


@strawberry.type
class AsyncMutations:
    @strawberry.mutation
    async def pay(self) -> Paid:
        return Paid(order=(await Order.objects.acreate()).pk)


@strawberry.type
class StrawberryQueries:
    ping: str = "pong"


GRAPHENE = {"schema": graphene.Schema(query=Queries, mutation=Mutations)}
STRAWBERRY = {"schema": strawberry.Schema(StrawberryQueries, StrawberryMutations)}
ASYNC = {"schema": strawberry.Schema(StrawberryQueries, AsyncMutations)}


@method_decorator(idempotent, name="dispatch")
class OnceGraphQLView(GraphQLView): ...


@method_decorator(idempotent, name="dispatch")
class OnceStrawberryView(StrawberryView): ...


class MembersOnly(LoginRequiredMixin, OnceGraphQLView): ...


class MembersOnlyStrawberry(LoginRequiredMixin, OnceStrawberryView): ...


leased: Any = idempotent(lease=timedelta(minutes=1))

VIEWS = {
    "graphene-as-view": idempotent(GraphQLView.as_view(**GRAPHENE)),
    "graphene-dispatch": OnceGraphQLView.as_view(**GRAPHENE),
    "graphene-members": MembersOnly.as_view(**GRAPHENE),
    "strawberry-as-view": idempotent(StrawberryView.as_view(**STRAWBERRY)),
    "strawberry-dispatch": OnceStrawberryView.as_view(**STRAWBERRY),
    "strawberry-members": MembersOnlyStrawberry.as_view(**STRAWBERRY),
    "strawberry-async": leased(AsyncGraphQLView.as_view(**ASYNC)),
}
urlpatterns = [path(f"{name}/", view) for name, view in VIEWS.items()]

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls(__name__),
]


@pytest.mark.parametrize("name", VIEWS)
def test_mutation_is_done_once_and_its_copy_gets_the_first_answer(name: str) -> None:
    client = signed_in_client()

    first, copy = (send(client, f"/{name}/", MUTATION) for _ in range(2))

    assert [word(first), word(copy)] == ["200", "200 replayed"]
    assert copy.content == first.content
    assert first.json()["data"]["pay"]["order"] == Order.objects.get().pk


@pytest.mark.parametrize("name", [name for name in VIEWS if "members" in name])
def test_access_check_before_dispatch_holds_for_a_replay(name: str) -> None:
    client = signed_in_client()
    first = send(client, f"/{name}/", MUTATION, key=GUEST_KEY)
    client.logout()
    copy = send(client, f"/{name}/", MUTATION, key=GUEST_KEY)
    stranger = send(Client(), f"/{name}/", MUTATION, key=GUEST_KEY)

    assert [each.status_code for each in (first, copy, stranger)] == [200, 302, 302]
    assert orders() == 1


class Private(LoginRequiredMixin, GraphQLView): ...


class PrivateStrawberry(LoginRequiredMixin, StrawberryView): ...


@cases(
    "make, line",
    {
        "graphene": (
            lambda: Private.as_view(**GRAPHENE),
            "class Private(LoginRequiredMixin, OnceGraphQLView): ...",
        ),
        "strawberry": (
            lambda: PrivateStrawberry.as_view(**STRAWBERRY),
            "class PrivateStrawberry(LoginRequiredMixin, OnceGraphQLView): ...",
        ),
    },
)
def test_access_check_that_a_replay_would_skip_is_refused_with_the_lines(
    make: Callable[[], Any], line: str
) -> None:
    with pytest.raises(ImproperlyConfigured) as refusal:
        idempotent(make())

    assert line in str(refusal.value)
