"""A model of the behaviour table, and hypothesis looking for a history that breaks it.

The model is a dictionary: what each key should have come to. It predicts each answer,
and afterwards the database must hold what the model holds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.db.models import F
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.test import Client
from django.urls import path
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from tests.support.ordering import GUEST_KEY, JSON, word
from tests.support.threads import all_at_once
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]


def come_to(request: HttpRequest, order: int) -> HttpResponse:
    """End as the test wishes, by a header, which is no part of the fingerprint."""
    wish = request.headers["X-Wish"]
    if wish == "raise":
        raise RuntimeError
    if wish == "raise 404":
        raise Http404
    return JsonResponse({"order": order}, status=int(wish))


def order_view(request: HttpRequest) -> HttpResponse:
    if request.method == "GET":
        return HttpResponse("nothing is ordered")
    return come_to(request, Order.objects.create().pk)


@idempotent(lease=timedelta(minutes=1))
def leased_view(request: IdempotentRequest) -> HttpResponse:
    order = request.idempotency.write("order", lambda: Order.objects.create().pk)
    return come_to(request, order)


urlpatterns = [
    path("orders/", idempotent(order_view)),
    path("lenient/", idempotent(required=False)(order_view)),
    path("leased/", leased_view),
]

PRINCIPALS = ("ann", "bob", "")
KEYS = (GUEST_KEY, "x" * 21)
PATHS = ("/orders/", "/lenient/", "/leased/")
BODIES = ('{"a": 1}', '{"a": 2}')
WISHES = ("201", "200", "400", "404", "422", "429", "405", "500", "503")
RAISES = ("raise", "raise 404")
RELEASED = {405, 429, 500, 503}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    principal: str
    path: str
    method: str
    key: str | None
    body: str
    wish: str

    @property
    def name(self) -> Name:
        """What the key means; without one it means nothing to anybody else."""
        return self.principal, self.method, self.path, self.key or ""

    @property
    def is_leased(self) -> bool:
        return self.path == "/leased/"


Name = tuple[str, str, str, str]


@dataclass(slots=True, kw_only=True)
class Row:
    """What the model knows of one key."""

    state: str
    body: str
    answer: tuple[int, bytes] | None = None
    is_expired: bool = False


REQUESTS = st.builds(
    Request,
    principal=st.sampled_from(PRINCIPALS),
    path=st.sampled_from(PATHS),
    method=st.sampled_from(("POST", "POST", "POST", "PUT")),
    key=st.sampled_from((*KEYS, *KEYS, *KEYS, None)),
    body=st.sampled_from((BODIES[0], *BODIES)),
    wish=st.sampled_from(("201", "201", "201", *WISHES, *RAISES)),
)


class Model:
    """The behaviour table, for one caller after another."""

    def __init__(self) -> None:
        self.rows: dict[Name, Row] = {}
        self.orders = 0

    def answer(self, request: Request) -> str:
        """Return what the answer is, in a word, and change what it changes."""
        if request.key is None:
            return self._answer_without_key(request)
        row = self.rows.get(request.name)
        if row is not None and not row.is_expired:
            if row.body != request.body:
                return "422 key-reused"
            if row.answer is not None:
                return f"{row.answer[0]} replayed"
        return self._run(request, row)

    def _answer_without_key(self, request: Request) -> str:
        if request.method == "POST" and request.path != "/lenient/":
            return "400 key-missing"
        # In the leased shape a write commits, whatever comes after it.
        self.orders += request.is_leased or self._is_kept(request)
        return self._word(request)

    def _run(self, request: Request, row: Row | None) -> str:
        """The view runs."""
        is_new = row is None or row.is_expired
        if self._is_kept(request):
            # A leased try that failed has placed the order already.
            self.orders += is_new or not request.is_leased
            answer = (int(request.wish), b"")
            kept = Row(state="kept", body=request.body, answer=answer)
            self.rows[request.name] = kept
        elif request.is_leased:
            self.orders += is_new
            self.rows[request.name] = Row(state="released", body=request.body)
        elif request.wish != "raise 404" and (row is None or row.state == "released"):
            # A note, which never touches the row of an answer, expired or not.
            self.rows[request.name] = Row(state="released", body=request.body)
        return self._word(request)

    @staticmethod
    def _is_kept(request: Request) -> bool:
        return request.wish.isdigit() and int(request.wish) not in RELEASED

    @staticmethod
    def _word(request: Request) -> str:
        return {"raise": "500", "raise 404": "404"}.get(request.wish, request.wish)


class BehaviourTable(RuleBasedStateMachine):
    """The model beside the real thing."""

    @initialize()
    def forget_everything(self) -> None:
        Order.objects.all().delete()
        IdempotencyRecord.objects.all().delete()
        self.model = Model()
        self.last: Request | None = None
        self.users = {
            name: User.objects.get_or_create(username=name)[0]
            for name in PRINCIPALS
            if name
        }
        self.clients = {name: self._client(name) for name in PRINCIPALS}

    @rule(request=REQUESTS)
    def send(self, request: Request) -> None:
        self.last = request
        expected = self.model.answer(request)
        response = self._send(request)
        assert word(response) == expected
        self._learn(request, [response])

    @precondition(lambda self: self.last is not None)
    @rule(wish=st.sampled_from(("201", "201", "raise", "503")))
    def send_again(self, wish: str) -> None:
        """The last request once more, whatever the view would do now."""
        assert self.last is not None
        self.send(replace(self.last, wish=wish))

    @precondition(lambda self: self.last is not None)
    @rule(
        change=st.sampled_from(
            [
                *product(["body"], BODIES),
                *product(["principal"], PRINCIPALS),
                *product(["path"], PATHS),
            ]
        )
    )
    def send_another(self, change: tuple[str, str]) -> None:
        """With another body, by another user, or to another path."""
        assert self.last is not None
        self.send(replace(self.last, **dict([change])))

    # SQLite has one writer, and its copies may be told to come back.
    @precondition(lambda self: connection.vendor == "postgresql")
    @rule(request=REQUESTS, count=st.integers(2, 4))
    def send_copies_at_once(self, request: Request, count: int) -> None:
        """Whoever comes first, together they get what they would get in a row."""
        expected = Counter(self.model.answer(request) for _ in range(count))
        client_of = [self._client(request.principal) for _ in range(count)]
        responses = all_at_once(
            count, lambda number: self._send(request, client_of[number])
        )
        assert Counter(word(each) for each in responses) == expected
        self._learn(request, responses)

    @rule(data=st.data())
    @precondition(lambda self: self.model.rows)
    def let_one_expire(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.rows)))
        self.model.rows[name].is_expired = True
        self._records(name).update(expires_at=F("created_at") - timedelta(seconds=1))

    @rule()
    def purge(self) -> None:
        call_command("purge_idempotency_keys", verbosity=0)
        rows = self.model.rows
        self.model.rows = {k: row for k, row in rows.items() if not row.is_expired}

    @rule(request=REQUESTS)
    def look(self, request: Request) -> None:
        """A safe method: whatever the key, the view answers and nothing is stored."""
        url = "/lenient/"
        headers = {} if request.key is None else {"Idempotency-Key": request.key}
        response = self.clients[request.principal].get(url, headers=headers)
        assert response.content == b"nothing is ordered"

    @invariant()
    def database_holds_what_the_model_holds(self) -> None:
        assert Order.objects.count() == self.model.orders
        expected = Counter(
            (row.state, row.answer and row.answer[0])
            for row in self.model.rows.values()
        )
        found = IdempotencyRecord.objects.values_list("state", "response_status")
        assert Counter(found) == expected

    def _client(self, name: str) -> Client:
        client = Client(raise_request_exception=False)
        if name:
            client.force_login(self.users[name])
        return client

    def _send(self, request: Request, client: Client | None = None) -> Any:
        headers = {"X-Wish": request.wish}
        if request.key is not None:
            headers["Idempotency-Key"] = request.key
        client = client or self.clients[request.principal]
        return client.generic(
            request.method, request.path, request.body, JSON, headers=headers
        )

    def _learn(self, request: Request, responses: list[Any]) -> None:
        """Remember the first answer's bytes; each later one must have the same."""
        row = self.model.rows.get(request.name)
        is_refused = word(responses[0]) == "422 key-reused"
        # What has expired may have been tried again without success.
        if row is None or row.answer is None or row.is_expired or is_refused:
            return
        bodies = {response.content for response in responses}
        if row.answer[1]:
            bodies.add(row.answer[1])
        assert len(bodies) == 1, bodies
        row.answer = (row.answer[0], bodies.pop())

    def _records(self, name: Name) -> Any:
        principal, method, url, key = name
        scope = f"auth.User:{self.users[principal].pk}" if principal else "anonymous"
        return IdempotencyRecord.objects.filter(
            scope=f"{scope}|{method}|{url}", key=key
        )


def test_engine_does_what_the_model_of_the_behaviour_table_says() -> None:
    run_state_machine_as_test(
        BehaviourTable,
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            deadline=None,
            # To shorten what is found takes minutes: add Phase.shrink by hand.
            phases=[Phase.reuse, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
