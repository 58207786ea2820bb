"""Whose key it is: users of all kinds, and what a project's own hook says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import path
from ninja import NinjaAPI
from rest_framework.views import APIView

from django_idempotency.contrib import ninja
from django_idempotency.decorators import idempotent
from django_idempotency.http import Identified, principal_of
from django_idempotency.models import IdempotencyRecord, OperationIntent
from django_idempotency.rest_framework import IdempotencyMixin
from tests.support.ordering import (
    GUEST_KEY,
    is_replay,
    orders,
    place_order,
    signed_in_client,
)
from tests.testapp.models import Order

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as ClientResponse

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

api = NinjaAPI(urls_namespace="of-others")


def place_in_one_word(request: HttpRequest) -> HttpResponse:
    """The answer to all orders is the same, so that answers can be compared."""
    Order.objects.create()
    return JsonResponse({"done": "once"}, status=201)


@api.post("order/")
@ninja.idempotent
def place_with_ninja(request: HttpRequest) -> Any:
    return place_in_one_word(request)


class PlaceWithRest(IdempotencyMixin, APIView):
    def post(self, request: Any) -> HttpResponse:
        return place_in_one_word(request)


WINDOW = timedelta(hours=1)
urlpatterns = [
    path("order/", idempotent(place_order)),
    path("plain/order/", idempotent(place_in_one_word)),
    path("leased/order/", idempotent(lease=WINDOW)(place_in_one_word)),
    path("window/order/", idempotent(intent_window=WINDOW)(place_in_one_word)),
    path("rest/order/", PlaceWithRest.as_view()),
    path("ninja/", api.urls),
]

PROTECTED_USERS = Path(__file__).parent / "users" / "protected_users.py"


# Users


@pytest.mark.parametrize(
    "model", ["UuidUser", "EmailUser", "NumberedUser", "ProxyUser"]
)
def test_projects_own_user_model_is_protected(model: str, tmp_path: Path) -> None:
    """FR-111: migrated and run with each, in a project of its own."""
    database = f"sqlite:///{tmp_path}/users.sqlite3"  # made in no time
    done = subprocess.run(  # noqa: S603 - our own arguments
        [
            *(sys.executable, "-m", "pytest", str(PROTECTED_USERS)),
            *("--ds", "tests.settings_users", "-p", "no:cacheprovider", "-q"),
        ],
        capture_output=True,
        check=False,
        cwd=PROTECTED_USERS.parents[4],
        env={**os.environ, "DATABASE_URL": database, "TESTS_USER_MODEL": model},
        text=True,
        timeout=100,
    )

    assert done.returncode == 0, done.stdout


@dataclass
class ApiUser:
    """What an authentication without a model makes: no `_meta`."""

    pk: Any
    is_authenticated: bool = True


class OtherApiUser(ApiUser): ...


def request_by(user: Any) -> HttpRequest:
    request = RequestFactory().post("/order/")
    request.user = user
    return request


def test_user_is_named_by_model_and_primary_key() -> None:
    assert principal_of(request_by(User(pk=7))) == "auth.User:7"


def test_user_without_a_model_is_named_by_class() -> None:
    assert principal_of(request_by(ApiUser("7"))) == f"{__name__}.ApiUser:7"


def test_equal_numbers_of_two_models_are_two_principals() -> None:
    """FR-111: user 1 and '1' of another model."""
    another = Order(pk=1)
    another.is_authenticated = True  # type: ignore[attr-defined]
    users = [User(pk=1), another, ApiUser(1), OtherApiUser(1)]

    assert len({principal_of(request_by(user)) for user in users}) == len(users)


def test_visitor_and_request_without_authentication_are_anonymous() -> None:
    assert principal_of(request_by(AnonymousUser())) == "anonymous"
    assert principal_of(RequestFactory().post("/order/")) == "anonymous"


@pytest.mark.parametrize("pk", [None, ""])
def test_signed_in_user_without_a_key_is_refused(pk: object) -> None:
    with pytest.raises(ImproperlyConfigured, match="can't be told apart from others"):
        principal_of(request_by(ApiUser(pk)))


# The project's hook


def tenant(request: HttpRequest) -> str:
    return f"tenant:{request.headers['X-Tenant']}|{principal_of(request)}"


def account(request: HttpRequest) -> str:
    """API keys: several of them can be one account's."""
    accounts = {"key-1": "4", "key-2": "4", "key-3": "5"}
    sent = request.headers.get("X-Api-Key")
    return Identified(f"account:{accounts[sent]}") if sent else principal_of(request)


def refusing(request: HttpRequest) -> str:
    raise PermissionDenied


def nobody(request: HttpRequest) -> None:
    return None


def blank(request: HttpRequest) -> str:
    return ""


def number(request: HttpRequest) -> int:
    return 7


def by_hook(hook: Any, setting: str = "IDEMPOTENCY_PRINCIPAL") -> Any:
    return override_settings(**{setting: f"{__name__}.{hook.__name__}"})


each_setting = pytest.mark.parametrize(
    "setting", ["IDEMPOTENCY_PRINCIPAL", "IDEMPOTENCY_PATH"]
)


def post(client: Client, key: str = "order-1", **headers: str) -> ClientResponse:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/order/", headers={"Idempotency-Key": key, **sent})


def test_each_user_of_each_tenant_has_keys_of_his_own() -> None:
    ann, bob = signed_in_client("ann"), signed_in_client("bob")
    sent = [(ann, "a"), (ann, "b"), (bob, "a"), (ann, "a")]
    with by_hook(tenant):
        answers = [post(client, X_Tenant=name) for client, name in sent]

    assert [is_replay(each) for each in answers] == [False, False, False, True]


def test_two_api_keys_of_one_account_are_one_principal() -> None:
    with by_hook(account):
        answers = [
            post(Client(), X_Api_Key=name) for name in ("key-1", "key-2", "key-3")
        ]

    assert [is_replay(each) for each in answers] == [False, True, False]
    scopes = IdempotencyRecord.objects.order_by("scope").values_list("scope", flat=True)
    assert list(scopes) == ["account:4|POST|/order/", "account:5|POST|/order/"]


def test_guest_whom_the_hook_leaves_a_guest_needs_an_unguessable_key() -> None:
    with by_hook(account):
        statuses = [post(Client(), key).status_code for key in ("1", GUEST_KEY)]

    assert statuses == [400, 201]


def everybody(request: HttpRequest) -> str:
    return "everybody"


@pytest.mark.parametrize("hook", [tenant, everybody])
def test_hook_makes_no_guest_somebody_else(hook: Any) -> None:
    """Neither by a text before the guests' name nor by another name."""
    ann = signed_in_client()
    with by_hook(hook):
        guests = [post(Client(), key, X_Tenant="a") for key in ("1", GUEST_KEY)]
        assert post(ann, "1", X_Tenant="a").status_code == 201
        with override_settings(IDEMPOTENCY_ANONYMOUS="refuse"):
            refused = post(Client(), GUEST_KEY, X_Tenant="b")

    assert [each.status_code for each in guests] == [400, 201]
    assert refused.status_code == 401
    by_guests = IdempotencyRecord.objects.get(key=GUEST_KEY).scope
    assert by_guests.endswith("anonymous|POST|/order/")


@each_setting
@pytest.mark.parametrize("hook", [nobody, blank, number])
def test_hook_that_names_nothing_is_an_error_and_lets_nothing_happen(
    hook: Any, setting: str
) -> None:
    refused = pytest.raises(ImproperlyConfigured, match=f"{setting} = .* non-empty str")
    with by_hook(hook, setting), refused:
        post(Client(), GUEST_KEY)

    assert (orders(), IdempotencyRecord.objects.count()) == (0, 0)


@each_setting
def test_hook_that_refuses_is_answered_as_in_a_view(setting: str) -> None:
    with by_hook(refusing, setting):
        answer = post(Client(), GUEST_KEY)

    assert (answer.status_code, IdempotencyRecord.objects.count()) == (403, 0)


@each_setting
def test_hook_is_not_asked_without_a_key(setting: str) -> None:
    with by_hook(nobody, setting):
        answer = signed_in_client().put("/order/")

    assert answer.status_code == 201


# FR-062, FR-063: neither learns that the other's key exists


def test_two_users_with_one_key_have_an_order_each_and_are_answered_alike() -> None:
    answers = [post(signed_in_client(name)) for name in ("ann", "bob")]

    assert ([is_replay(each) for each in answers], orders()) == ([False, False], 2)
    # Two orders have two numbers, which may be of two lengths: the 99th and the 100th.
    # And a second may begin between them.
    for answer in answers:
        del answer.headers["Content-Length"], answer.headers["Idempotency-Reference"]
        del answer.headers["Idempotency-Expires"]
    assert answers[0].headers == answers[1].headers


def in_disguise() -> Client:
    """A guest with what proxies and servers tell of users, and somebody's cookies."""
    client = Client(
        headers={"X-Forwarded-User": "ann", "X-User": "auth.User:1", "X-Tenant": "a"},
    )
    client.defaults |= {
        "HTTP_REMOTE_USER": "ann",
        "HTTP_AUTHORIZATION": "Basic YW5uOg==",
    }
    client.cookies.load({"sessionid": "fixed-by-mallory", "csrftoken": "c" * 32})
    return client


OTHERS: dict[str, Callable[[], tuple[Client, str]]] = {
    "another customer": lambda: (signed_in_client("mallory"), "a"),
    "a guest": lambda: (Client(), "a"),
    "a guest in disguise": lambda: (in_disguise(), "a"),
    "the same customer of another tenant": lambda: (signed_in_client("ann"), "b"),
}
PROBES: dict[str, Callable[[str], dict[str, Any]]] = {
    "repeat": lambda reference: {},
    "other content": lambda reference: {"data": '{"amount": 2}'},
    "another key": lambda reference: {"key": f"{GUEST_KEY[:-1]}x"},
    "confirmed": lambda reference: {"Idempotency-Confirm": reference},
    "question": lambda reference: {"ask": "POST"},
    "question by another method": lambda reference: {"ask": "DELETE"},
    "other type": lambda reference: {"content_type": "text/plain"},
}


def probed(client: Client, url: str, tenant: str, **more: Any) -> ClientResponse:
    headers = {"Idempotency-Key": more.pop("key", GUEST_KEY), "X-Tenant": tenant}
    content_type = more.pop("content_type", "application/json")
    data = more.pop("data", '{"amount": 1}')
    if ask := more.pop("ask", ""):
        return client.get(url, headers={**headers, "Idempotency-Ask": ask})
    return client.post(url, data, content_type, headers={**headers, **more})


def told(response: ClientResponse) -> tuple[int, bytes, dict[str, str]]:
    passing = ("Idempotency-Expires", "Date")  # what passes with time
    headers = {
        name: value for name, value in response.headers.items() if name not in passing
    }
    return response.status_code, response.content, headers


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("view", ["plain", "leased", "window", "rest", "ninja"])
@pytest.mark.parametrize("who", OTHERS)
def test_other_ones_find_what_they_would_find_if_there_were_none(
    who: str, view: str, settings: Any
) -> None:
    """FR-063: each answer is the same with and without the victim's operation, which
    stays as it is: nothing of it is read, replayed, blocked or counted."""
    settings.MIDDLEWARE = [
        "django_idempotency.middleware.OutcomeMiddleware",
        *settings.MIDDLEWARE,
    ]
    url = f"/{view}/order/"
    with by_hook(tenant):
        for name, probe in PROBES.items():
            answers = {}
            for is_there in (True, False):
                IdempotencyRecord.objects.all().delete()
                OperationIntent.objects.all().delete()
                reference = ""
                if is_there:
                    first = probed(signed_in_client("ann"), url, "a")
                    reference = first.headers["Idempotency-Reference"]
                    assert first.status_code == 201
                victim = list(IdempotencyRecord.objects.values())
                client, home = OTHERS[who]()
                answers[is_there] = told(probed(client, url, home, **probe(reference)))
                found = IdempotencyRecord.objects.filter(
                    pk__in=[each["id"] for each in victim]
                )
                assert list(found.values()) == victim
            assert (name, answers[True]) == (name, answers[False])


def test_signing_in_midway_is_another_principal() -> None:
    client = Client()
    post(client, GUEST_KEY)
    client.force_login(User.objects.create(username="ann"))

    assert not is_replay(post(client, GUEST_KEY))
