"""The code of the page on GraphQL, in requests, in batches and in batches made anew."""

import json
from typing import Any

import graphene
import pytest
import strawberry
from asgiref.sync import async_to_sync
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db import connection
from django.test import AsyncClient
from django.urls import path
from graphene_django.views import GraphQLView
from strawberry.django.views import AsyncGraphQLView
from strawberry.django.views import GraphQLView as StrawberryView
from strawberry.schema.config import StrawberryConfig

from tests.support.ordering import (
    forgiving_client,
    orders,
    send,
    signed_in_client,
    word,
)
from tests.support.pages import block, run
from tests.testapp.models import Order

PAGE = "howto/use-graphql"
NAMES = run(block(PAGE, "def pay_once"), {"Order": Order, "__name__": __name__})
BATCHES = StrawberryConfig(batching_config={"max_operations": 10})


class Queries(graphene.ObjectType):
    ping = graphene.String()


@strawberry.type
class StrawberryQueries:
    ping: str = "pong"


def _graphene() -> Any:
    mutation = run(block(PAGE, "graphene.Mutation"), {**NAMES})["Mutation"]
    schema = graphene.Schema(query=Queries, mutation=mutation)
    return GraphQLView.as_view(schema=schema, batch=True)


def _strawberry(*fragments: str, view: Any) -> Any:
    names = run(block(PAGE, "class Payment", "def pay("), {**NAMES})
    mutation = run(block(PAGE, "class Mutation", *fragments), names)["Mutation"]
    schema = strawberry.Schema(StrawberryQueries, mutation, config=BATCHES)
    return view.as_view(schema=schema)


def _once(view: Any) -> Any:
    """As the page protects the whole request."""
    code = block(PAGE, "graphql = idempotent")
    code = code.replace("GraphQLView.as_view(schema=schema)", "view")
    return run(code, {"view": view})["graphql"]


SYNC = {
    "graphene": _graphene(),
    "strawberry": _strawberry("class Payment", view=StrawberryView),
}
ASYNC = _strawberry("sync_to_async", view=AsyncGraphQLView)
urlpatterns = [
    *(path(f"{name}/", login_required(view)) for name, view in SYNC.items()),
    *(path(f"{name}/once/", _once(view)) for name, view in SYNC.items()),
    path("async/", ASYNC),
]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]
each_library = pytest.mark.parametrize("name", SYNC)


def pay(*payments: tuple[str, int]) -> dict[str, Any]:
    """One operation with these mutations, each with its key and its amount."""
    fields = (
        f'p{number}: pay(key: "{key}", amount: {amount}) {{ order }}'
        for number, (key, amount) in enumerate(payments)
    )
    return {"query": f"mutation {{ {' '.join(fields)} }}"}


def results(content: Any) -> list[int | None]:
    """What the mutations of an answer, or of a batch of them, have come to."""
    said = json.loads(content)
    return [
        each and each["order"]
        for one in (said if isinstance(said, list) else [said])
        for each in (one.get("data") or {"none": None}).values()
    ]


def ask(client: Any, name: str, *operations: Any, key: str | None = None) -> Any:
    return send(client, f"/{name}/", json.dumps(list(operations)), key=key)


@each_library
def test_mutation_is_done_once_however_it_is_batched(name: str) -> None:
    client = signed_in_client()
    a, b, c = ("A", 1), ("B", 2), ("C", 3)

    first = results(ask(client, name, pay(a, b)).content)
    again = results(ask(client, name, pay(b), pay(c, a)).content)

    assert again == [first[1], again[1], first[0]]
    assert sorted(Order.objects.values_list("amount", flat=True)) == [1, 2, 3]


@each_library
def test_key_with_other_arguments_is_an_error_and_belongs_to_its_user(
    name: str,
) -> None:
    ann, bob = signed_in_client(), signed_in_client("bob")
    [first] = results(ask(ann, name, pay(("A", 1))).content)
    other = ask(ann, name, pay(("A", 2)))
    [his] = results(ask(bob, name, pay(("A", 1))).content)

    assert "errors" in json.loads(other.content)[0]
    assert results(other.content) == [None]
    assert his not in (first, None)
    assert orders() == 2


@each_library
def test_batch_with_one_key_is_done_once_as_a_whole(name: str) -> None:
    client = signed_in_client()
    batch = (pay(("A", 1)), pay(("B", 2), ("C", 3)))

    first, copy = (ask(client, f"{name}/once", *batch, key="K") for _ in range(2))
    other = ask(client, f"{name}/once", *reversed(batch), key="K")
    # The mutations have keys of their own, too.
    anew = ask(client, f"{name}/once", *batch, key="L")

    assert [word(each) for each in (first, copy, other)] == [
        *("200", "200 replayed"),
        "422 key-reused",
    ]
    assert copy.content == first.content
    assert results(anew.content) == results(first.content)
    assert orders() == 3


@each_library
def test_query_needs_no_key(name: str) -> None:
    answer = ask(signed_in_client(), f"{name}/once", {"query": "{ ping }"})

    assert answer.status_code == 200


def test_async_resolver_does_it_once() -> None:
    client = AsyncClient()
    client.force_login(User.objects.create(username="ann"))
    post = async_to_sync(client.post)
    first, again = (
        results(post("/async/", pay(("A", 1)), "application/json").content)
        for _ in range(2)
    )

    assert first == again != [None]
    assert orders() == 1


@pytest.mark.parametrize(
    ("name", "is_atomic", "said", "left"),
    [
        ("graphene", False, ["200", "200 replayed"], 1),
        ("graphene", True, ["500", "500"], 0),
        ("strawberry", False, ["200", "200 replayed"], 1),
    ],
)
def test_answer_with_errors_is_kept_with_what_was_written_or_neither_is(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    is_atomic: bool,
    said: list[str],
    left: int,
) -> None:
    """With ATOMIC_REQUESTS graphene rolls back all of a request that has an error."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", is_atomic)
    client = forgiving_client()
    batch = pay(("A", 1), ("no key\u00e9", 2))

    first, copy = (ask(client, f"{name}/once", batch, key="K") for _ in range(2))

    assert is_atomic or "errors" in json.loads(first.content)[0]
    assert [word(first), word(copy)] == said
    assert orders() == left
