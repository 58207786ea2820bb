"""Authentication, throttles and parsing come first; no answer goes to another caller."""

from functools import wraps
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.test import Client
from ninja import NinjaAPI
from ninja.errors import HttpError
from ninja.security import APIKeyHeader, HttpBearer, django_auth
from ninja.throttling import BaseThrottle

from django_idempotency.contrib.ninja import idempotent
from django_idempotency.http import Identified, principal_of
from django_idempotency.models import IdempotencyRecord
from tests.factories import UserFactory
from tests.support.cases import cases
from tests.support.ordering import GUEST_KEY, is_replay, orders, send, word
from tests.support.records import states

from .exchange import Placed, api_of, deprecated_tuples, new_api, place, serving, twice

pytestmark = [pytest.mark.usefixtures("db"), deprecated_tuples]

CALLERS: dict[str, Any] = {}
"""Who sends which token."""


class Bearer(HttpBearer):
    def authenticate(self, request: HttpRequest, token: str) -> Any:
        return CALLERS.get(token)


class InHeader(APIKeyHeader):
    param_name = "X-Key"

    def authenticate(self, request: HttpRequest, key: str | None) -> Any:
        return CALLERS.get(key or "")


@pytest.fixture(autouse=True)
def nobody() -> None:
    CALLERS.clear()


def post(token: str = "", key: str = "K", **headers: str) -> Any:
    client = Client(raise_request_exception=False)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return send(client, "/", key=key, **headers)


class Account:
    def __init__(self, pk: int) -> None:
        self.pk = pk


def user(name: str) -> User:
    return UserFactory.create(username=name)


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"
# What the authentication of two callers may return.
TELLING: dict[str, Any] = {
    "users": lambda: (user("ann"), user("bob")),
    "instances": lambda: (Account(1), Account(2)),
    "tokens": lambda: ("token-of-ann", "token-of-bob"),
    "bytes": lambda: (b"ann", b"bob"),
    "numbers": lambda: (3, 7),
    "uuids": lambda: (UUID(int=1), UUID(int=2)),
    "claims": lambda: ({"sub": "ann", "exp": 1}, {"sub": "bob", "exp": 1}),
    "issuers": lambda: ({"sub": "1", "iss": "a"}, {"sub": "1", "iss": "b"}),
}


@pytest.mark.parametrize("name", TELLING)
@pytest.mark.parametrize("hook", [None, f"{__name__}.tenant", f"{__name__}.by_default"])
def test_caller_known_to_ninja_alone_gets_no_other_ones_answer(
    name: str, hook: str | None, settings: Any
) -> None:
    """Nor do they need keys like a guest's; a hook that names the tenant changes nothing."""
    settings.IDEMPOTENCY_PRINCIPAL = hook
    CALLERS["a"], CALLERS["b"] = TELLING[name]()
    with serving(api_of(idempotent(place), auth=Bearer())):
        first, copy, other = post("a"), post("a"), post("b")

    assert [word(each) for each in (first, copy, other)] == [
        "201",
        "201 replayed",
        "201",
    ]
    assert orders() == 2
    scopes = "".join(IdempotencyRecord.objects.values_list("scope", flat=True))
    assert "token" not in scopes


def tenant(request: HttpRequest) -> str:
    return "tenant:1"


def by_default(request: HttpRequest) -> str:
    return f"tenant:1|{principal_of(request)}"


def by_hand(request: HttpRequest) -> str:
    return Identified(f"client:{request.auth}")  # type: ignore[attr-defined]


def test_token_that_is_renewed_is_the_same_caller_by_its_subject() -> None:
    CALLERS.update(old={"sub": "ann", "exp": 1}, new={"sub": "ann", "exp": 2})
    with serving(api_of(idempotent(place), auth=Bearer())):
        assert [word(post(token)) for token in ("old", "new")] == [
            "201",
            "201 replayed",
        ]


@cases(
    "known, ways",
    {
        "web token": (JWT, [Bearer()]),
        "claims": ({"exp": 1}, [Bearer()]),
        "object": (object(), [Bearer()]),
        "text of one of two ways": ("ann", [Bearer(), InHeader()]),
    },
)
def test_caller_who_can_not_be_told_from_others_is_named_by_the_project_or_refused(
    known: Any, ways: list[Any], settings: Any
) -> None:
    CALLERS["a"] = known
    with serving(api_of(idempotent(place), auth=ways)):
        with pytest.raises(ImproperlyConfigured, match="Identified"):
            send(Client(), "/", Authorization="Bearer a")
        assert (orders(), states()) == (0, [])
        settings.IDEMPOTENCY_PRINCIPAL = f"{__name__}.by_hand"
        assert [word(post("a")), word(post("a"))] == ["201", "201 replayed"]


@cases(
    "known",
    {"a yes": True, "anonymous": AnonymousUser()},
)
def test_whoever_is_let_in_without_a_name_is_a_guest(known: Any) -> None:
    CALLERS["a"] = known
    with serving(api_of(idempotent(place), auth=Bearer())):
        guessable, unguessable = post("a"), post("a", GUEST_KEY)

    assert [word(guessable), word(unguessable)] == ["400 key-invalid", "201"]


@pytest.mark.parametrize("is_text", [False, True])
def test_signed_in_user_is_the_principal_whatever_the_token(is_text: bool) -> None:
    CALLERS["a"] = "token-of-ann" if is_text else user("machine")
    client = Client()
    client.force_login(user("ann"))
    with serving(api_of(idempotent(place), auth=[InHeader(), django_auth])):
        by_session = send(client, "/")
        by_key = send(client, "/", X_Key="a")

    assert [word(by_session), word(by_key)] == ["201", "201 replayed"]


class Once(BaseThrottle):
    """Lets so many requests through."""

    def __init__(self, left: int) -> None:
        self.left = left

    def allow_request(self, request: HttpRequest) -> bool:
        self.left -= 1
        return self.left >= 0


def test_throttle_counts_first_calls_and_replays_once_each() -> None:
    CALLERS["a"] = user("ann")
    throttle = Once(2)
    api = api_of(idempotent(place), auth=Bearer(), throttle=throttle)
    with serving(api):
        answers = [post("a") for _ in range(3)]

    assert [word(each) for each in answers] == ["201", "201 replayed", "429"]
    assert throttle.left == -1


def test_who_is_refused_gets_no_replay_and_leaves_no_record() -> None:
    CALLERS["a"] = user("ann")
    with serving(api_of(idempotent(place), auth=Bearer())):
        before = post("other")
        first = post("a")
        del CALLERS["a"]
        after = post("a")

    assert [word(each) for each in (before, first, after)] == ["401", "201", "401"]
    assert (orders(), states()) == (1, ["kept"])


def test_body_that_can_not_be_parsed_is_refused_before_a_key_is_looked_at() -> None:
    with serving(api_of(idempotent(place))):
        client = Client()
        wrong = send(client, "/", '{"amount": "many"}', key=GUEST_KEY)
        broken = send(client, "/", "{", key=None)
        right = send(client, "/", key=GUEST_KEY)

    assert [word(each) for each in (wrong, broken, right)] == ["422", "400", "201"]


def below_a_check() -> NinjaAPI:
    """A decorator of operations that checks access, above ours."""
    api = new_api(auth=Bearer())

    def only_ann(view: Any) -> Any:
        @wraps(view)
        def checked(request: Any, *args: Any, **kwargs: Any) -> Any:
            if request.auth.username != "ann":
                raise HttpError(403, "Not you.")
            return view(request, *args, **kwargs)

        return checked

    api.post("/", response={201: Placed})(only_ann(idempotent(place)))
    return api


def test_check_in_a_decorator_above_holds_for_replays() -> None:
    ann = CALLERS["a"] = user("ann")
    with serving(below_a_check()):
        first = post("a")
        ann.username = "was ann"
        after = post("a")

    assert [word(first), word(after)] == ["201", "403"]


def test_hook_of_the_project_sees_what_ninja_knows(settings: Any) -> None:
    settings.IDEMPOTENCY_ANONYMOUS = "refuse"
    CALLERS["a"] = "token"
    with serving(api_of(idempotent(place), auth=[Bearer()])):
        known = post("a")
    with serving(api_of(idempotent(place))):
        (guest, _) = twice(Client(), "/", key=GUEST_KEY)

    assert [word(known), word(guest)] == ["201", "401 sign-in-required"]
    assert not is_replay(guest)
