"""Who asks what became of a request is told what a repeat would be told; nothing runs.

A table of views, a table of what has become of the request, and who asks: each is asked
over the whole product, and the rows of the record and of the view are compared.
"""

import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.decorators import permission_required
from django.contrib.auth.mixins import PermissionRequiredMixin
from django.contrib.auth.models import Permission, User
from django.db import OperationalError, connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.http import require_POST
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import action, api_view, permission_classes
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet

from django_idempotency.checks.middleware import check_middleware
from django_idempotency.decorators import idempotent
from django_idempotency.engine import words
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.store.forgetting import forget_answer
from tests.integration.placements.commits import db
from tests.integration.rest.exchange import OrderSerializer
from tests.packaging.readme import ROOT
from tests.support.cases import cases
from tests.support.databases import Routes, alias
from tests.support.ordering import GUEST_KEY, orders, problem_code, signed_in_client
from tests.support.ordering import send as sent
from tests.support.records import change, expire, record
from tests.testapp.models import Order

__all__ = ["db"]

PAGE = (ROOT / "docs/howto/lost-answer.md").read_text(encoding="utf-8")
[MIDDLEWARE] = re.findall(r'"(django_idempotency\.\w+\.\w+)",  # first', PAGE)
PERMISSION = "testapp.add_order"
LEASE = timedelta(minutes=1)

pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.usefixtures("db", "_asked"),
]


@pytest.fixture
def _asked(settings: Any) -> None:
    settings.MIDDLEWARE = [MIDDLEWARE, *settings.MIDDLEWARE]
    scene.clear()
    scene.update(runs=0, fails=False)


scene: dict[str, Any] = {}


def work() -> tuple[dict[str, int], int]:
    scene["runs"] += 1
    if scene["fails"]:
        return {}, 503
    return {"order": Order.objects.create(reference="").pk}, 201


def place(request: HttpRequest, **names: Any) -> HttpResponse:
    said, status = work()
    answer = JsonResponse(said, status=status)
    answer.headers["Cache-Control"] = "max-age=600"
    return answer


allowed = permission_required(PERMISSION, raise_exception=True)


class MayOrder(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        # Everybody may look, as with most of the framework's own permissions.
        return request.method == "GET" or request.user.has_perm(PERMISSION)

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        return bool(obj.reference == request.user.get_username())


@method_decorator(allowed, name="dispatch")
@method_decorator(idempotent, name="post")
class ClassView(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return place(request)

    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("a page")

    def put(self, request: HttpRequest) -> HttpResponse:
        return place(request)


@method_decorator(idempotent, name="post")
class Mixed(PermissionRequiredMixin, View):
    permission_required = PERMISSION
    raise_exception = True

    def post(self, request: HttpRequest) -> HttpResponse:
        return place(request)


@method_decorator([allowed, idempotent], name="dispatch")
class Whole(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return place(request)


class Bare(View):
    post = staticmethod(place)


@api_view(["POST"])
@permission_classes([MayOrder])
@idempotent
def function(request: Request) -> Response:
    said, status = work()
    return Response(said, status)


class Api(IdempotencyMixin, APIView):
    authentication_classes = [SessionAuthentication]
    permission_classes = [MayOrder]

    def post(self, request: Request, **names: Any) -> Response:
        said, status = work()
        return Response(said, status)


class LeasedApi(Api):
    idempotency_policy = IdempotencyPolicy(lease=LEASE)


class Orders(IdempotencyMixin, ModelViewSet[Order]):
    authentication_classes = [SessionAuthentication]
    permission_classes = [MayOrder]
    serializer_class = OrderSerializer

    def get_queryset(self) -> QuerySet[Order]:
        return Order.objects.all()

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        said, status = work()
        return Response(said, status)

    @action(detail=True, methods=["post"])
    def pay(self, request: Request, pk: str) -> Response:
        self.get_object()
        return self.create(request)


@idempotent(lease=LEASE)
def charge(request: IdempotentRequest) -> HttpResponse:
    request.idempotency.call("charge", time_out, if_unknown="hold")
    return HttpResponse(status=201)


def time_out(key: str) -> None:
    raise TimeoutError


@idempotent(lease=LEASE)
async def later(request: HttpRequest) -> HttpResponse:
    scene["runs"] += 1
    status = 503 if scene["fails"] else 201
    return JsonResponse({"order": 0}, status=status)


class Free(Api):
    def get_idempotency_policy(self) -> IdempotencyPolicy | None:
        return None


once = idempotent(place)


def given(view: Any, protected: Any = once) -> Any:
    """A decorator that knows a protected view, and runs another one."""

    def either(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return protected(request) if request.GET.get("once") else view(request)

    return either


def knows(protected: Any) -> Any:
    def handler(self: View, request: HttpRequest) -> HttpResponse:
        answer: HttpResponse = (protected if request.GET.get("once") else place)(
            request
        )
        return answer

    return handler


class Bypassed(View):
    post = knows(once)


@method_decorator(idempotent, name="dispatch")
class Inner(View): ...


class Around(Inner):
    """Does the work where nothing protects it."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return place(request)


class Works(View):
    """Its dispatch() asks no handler, although there is one."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return place(request)

    post = staticmethod(place)


class WorkingBase(APIView):
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return place(request)


class BehindMixin(IdempotencyMixin, WorkingBase): ...


@method_decorator(idempotent, name="post")
class Redirecting(ClassView):
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        request.method = "PUT"
        return super().dispatch(request, *args, **kwargs)


def by_another_method(view: Any) -> Any:
    @wraps(view)
    def other(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        request.method = "PUT"
        return view(request, *args, **kwargs)

    return other


class MethodOverride:
    """As the packages do it that let a form send PUT: when the view is known."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *view: Any) -> None:
        if request.method == "POST":
            request.method = request.GET.get("method", "POST")


def wrapped(decorate: Any, name: str, view_class: Any) -> Any:
    own: Any = type(view_class.__name__, (view_class,), {})
    return method_decorator(decorate, name=name)(own).as_view()


urlpatterns = [
    path("plain/", allowed(require_POST(idempotent(place)))),
    path("leased/", allowed(idempotent(lease=LEASE)(place))),
    path("class/", ClassView.as_view()),
    path("mixed/", Mixed.as_view()),
    path("whole/", Whole.as_view()),
    path("around/", allowed(idempotent(Bare.as_view()))),
    path("function/", function),
    path("api/", Api.as_view()),
    path("leased-api/", LeasedApi.as_view()),
    path("orders/", Orders.as_view({"get": "list", "post": "create"})),
    path("orders/<pk>/pay/", Orders.as_view({"post": "pay"})),
    path("guests/", idempotent(place)),
    path("later/", later),
    path("charge/", charge),
    path("bare/", place),
    path("free/", Free.as_view()),
    path("given/", given(place)),
    path("given-class/", wraps(Bypassed.as_view())(given(Bypassed.as_view()))),
    path("bypassed/", Bypassed.as_view()),
    path("worked/", Around.as_view()),
    path("works/", wrapped(idempotent, "post", Works)),
    path("works-decorated/", wrapped(idempotent, "dispatch", Works)),
    path("behind-mixin/", BehindMixin.as_view()),
    path("redirecting/", Redirecting.as_view()),
    path("by-another-method/", by_another_method(ClassView.as_view())),
]

VIEWS = {
    each.strip("/"): f"/{each}/"
    for each in (
        *(
            "plain",
            "leased",
            "class",
            "mixed",
            "whole",
            "around",
            "function",
            "api",
            "leased-api",
        ),
        *("orders", "orders/{pk}/pay"),
    )
}
each_view = cases("url", VIEWS)


def addressed(url: str) -> str:
    """The view's address; that of an order has ann's, which no test counts."""
    if "{pk}" not in url:
        return url
    mine, _ = Order.objects.get_or_create(reference="ann")
    return url.format(pk=mine.pk)


def person(name: str = "ann") -> Client:
    client = signed_in_client(name, enforce_csrf_checks=True)
    may_order(name)
    return client


def may_order(name: str) -> User:
    user = User.objects.get(username=name)
    user.user_permissions.add(
        Permission.objects.get(codename="add_order", content_type__app_label="testapp")
    )
    return user


def order(client: Client, url: str, key: str = GUEST_KEY) -> Any:
    token = {"X_CSRFToken": "a" * 32}
    client.cookies["csrftoken"] = "a" * 32
    return sent(client, url, key=key, **token)


def ask(
    client: Client, url: str, key: str | None = GUEST_KEY, method: str = "POST"
) -> Any:
    client.cookies.pop("csrftoken", None)
    return sent(client, url, b"", key=key, method="GET", Idempotency_Ask=method)


def standing(response: Any) -> str:
    """``done 201``, ``held 409 outcome-unknown`` or, if nothing is told, ``403``."""
    state = response.headers.get("Idempotency-State", "")
    return f"{state} {response.status_code} {problem_code(response) or ''}".strip()


def rows() -> list[Any]:
    return [
        *IdempotencyRecord.objects.order_by("pk").values_list(),
        *Order.objects.order_by("pk").values_list(),
        scene["runs"],
    ]


def fail(client: Client, url: str) -> None:
    scene["fails"] = True
    order(client, url)


def fail_and_expire(client: Client, url: str) -> None:
    fail(client, url)
    expire()


def claimed(client: Client, url: str, lease: timedelta = LEASE) -> None:
    order(client, url)
    change(
        state="in_flight",
        lease_token=uuid.uuid4(),
        lease_expires_at=Now() + lease,
        **{f"response_{name}": None for name in ("status", "headers", "body")},
    )


def forget(client: Client, url: str) -> None:
    order(client, url)
    forget_answer(record(), by="ann", reason="asked")


def done_and(then: Callable[[], Any]) -> Callable[[Client, str], Any]:
    return lambda client, url: (order(client, url), then())


STATES: dict[str, tuple[Callable[[Client, str], Any], str]] = {
    "never sent": (lambda client, url: None, "unknown 404 operation-unknown"),
    "done": (order, "done 201"),
    "running": (claimed, "running 409 in-flight"),
    "its worker was killed": (
        lambda client, url: claimed(client, url, -LEASE),
        "unfinished 409 unfinished",
    ),
    "failed": (fail, "unfinished 409 unfinished"),
    "held": (done_and(lambda: change(state="held")), "held 409 outcome-unknown"),
    "lost in the middle": (
        done_and(lambda: change(state="in_flight")),
        "held 409 outcome-unknown",
    ),
    "expired": (done_and(expire), "unknown 404 operation-unknown"),
    "failed and expired": (
        fail_and_expire,
        "unknown 404 operation-unknown",
    ),
    "remembered": (
        done_and(
            lambda: change(expires_at=Now() - LEASE, remembered_until=Now() + LEASE)
        ),
        "gone 409 answer-expired",
    ),
    "forgotten": (forget, "gone 409 answer-unavailable"),
    "unreadable": (
        done_and(lambda: change(response_headers="{}")),
        "gone 409 answer-unavailable",
    ),
    "another's by its digest": (
        done_and(lambda: change(scope="x|POST|/")),
        "unknown 404 operation-unknown",
    ),
}
each_state = cases("become, told", STATES)


def test_page_has_each_state_with_its_answer() -> None:
    told = re.findall(r"^\| `(\w+)` \| (?:(\d+) \[`([\w-]+)`|the first)", PAGE, re.M)
    expected = {standing.split(" 201")[0] for _, standing in STATES.values()}

    assert {" ".join(each).strip() for each in told} == expected


@each_state
@each_view
def test_owner_is_told_how_it_stands_and_nothing_changes(
    url: str, become: Callable[[Client, str], Any], told: str
) -> None:
    url, ann = addressed(url), person()
    become(ann, url)
    before = rows()

    with override_settings(IDEMPOTENCY_COUNT_REPLAYS=False):
        answers = [ask(ann, url) for _ in range(2)]

    assert [standing(each) for each in answers] == [told] * 2
    assert rows() == before
    assert {each.headers["Cache-Control"] for each in answers} == {"no-store"}


@pytest.mark.exhaustive
@each_state
@each_view
def test_nobody_else_learns_that_there_is_anything(
    url: str, become: Callable[[Client, str], Any], told: str
) -> None:
    """Another user is told what is told of a key that was never sent."""
    url, ann, eve = addressed(url), person(), person("eve")
    others = {"eve": eve, "a guest": Client()}
    nothing = {name: ask(each, url) for name, each in others.items()}
    become(ann, url)
    before = rows()

    answers = {name: ask(each, url) for name, each in others.items()}

    for name, each in answers.items():
        assert standing(each) == standing(nothing[name]), name
        assert each.content == nothing[name].content
    assert standing(answers["eve"]) == "unknown 404 operation-unknown"
    assert standing(answers["a guest"]) == "403"
    assert rows() == before


@pytest.mark.exhaustive
@each_state
@each_view
def test_owner_who_may_not_do_it_any_more_is_told_nothing(
    url: str, become: Callable[[Client, str], Any], told: str
) -> None:
    url, ann = addressed(url), person()
    become(ann, url)
    User.objects.get(username="ann").user_permissions.clear()

    assert standing(ask(ann, url)) == "403"


def test_owner_who_has_lost_the_object_gets_no_answer() -> None:
    """As for a repeat; that the client has no answer is not told as "unknown"."""
    url, ann = addressed("/orders/{pk}/pay/"), person()
    order(ann, url)
    Order.objects.filter(reference="ann").update(reference="eve")
    lost = standing(ask(ann, url))
    Order.objects.all().delete()

    assert [lost, standing(ask(ann, url))] == ["403", "404"]


@each_view
def test_answer_is_the_first_one_and_counts_as_a_replay(url: str) -> None:
    url, ann = addressed(url), person()
    first, told = order(ann, url), ask(ann, url)

    assert (told.status_code, told.content) == (first.status_code, first.content)
    assert told.headers["Content-Type"] == first.headers["Content-Type"]
    names = ("Idempotency-Replayed", "Idempotency-Ended", "Idempotency-State")
    assert [told.headers[name] for name in names] == ["true", "true", "done"]
    reference = first.headers["Idempotency-Reference"]
    assert told.headers["Idempotency-Reference"] == reference
    assert told.headers["Idempotency-Expires"].endswith(" GMT")
    assert record().replays == 1


@each_view
def test_who_asked_in_vain_can_send_it_with_the_same_key(url: str) -> None:
    url, ann = addressed(url), person()
    ask(ann, url)

    first = order(ann, url)

    assert (first.status_code, scene["runs"]) == (201, 1)
    assert order(ann, url).headers["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("state", ["never sent", "done"])
def test_in_a_transaction_around_it_the_same_is_told(state: str) -> None:
    """As in a project's own tests."""
    become, told = STATES[state]
    become(Client(), "/guests/")
    before = rows()

    with transaction.atomic(), override_settings(IDEMPOTENCY_COUNT_REPLAYS=False):
        answer = ask(Client(), "/guests/")
        assert connection.needs_rollback is False

    assert (standing(answer), rows()) == (told, before)


def test_word_of_the_other_side_is_heard_by_a_question() -> None:
    """It came while the call could still return; nobody else may come for a long time."""
    client = Client(raise_request_exception=False)
    order(client, "/charge/")
    change(lease_expires_at=Now() + LEASE)
    words.tell(record().pk, "charge", {"id": "ch_1"}, event="evt_1")
    running = standing(ask(client, "/charge/"))
    change(lease_expires_at=Now() - LEASE)

    assert running == "running 409 in-flight"
    assert standing(ask(client, "/charge/")) == "unfinished 409 unfinished"


def test_running_operation_says_when_to_ask_again_and_has_a_reference() -> None:
    ann = person()
    claimed(ann, "/leased/")

    answer = ask(ann, "/leased/")

    assert 50 < int(answer.headers["Retry-After"]) <= 60
    assert answer.json()["reference"] == answer.headers["Idempotency-Reference"]
    assert answer.json()["state"] == "running"


@pytest.mark.parametrize("url", ["/later/"])
@each_state
def test_async_view_tells_the_same(
    url: str, become: Callable[[Client, str], Any], told: str
) -> None:
    become(Client(), url)
    headers = {"Idempotency-Key": GUEST_KEY, "Idempotency-Ask": "POST"}
    runs = scene["runs"]

    answer = async_to_sync(AsyncClient().get)(url, headers=headers)

    assert (standing(answer), scene["runs"]) == (told, runs)
    assert answer.headers["Cache-Control"] == "no-store"


KEYS = {
    "none": (None, "400 key-missing"),
    "empty": (" ", "400 key-invalid"),
    "guessable": ("1", "400 key-invalid"),
    "of another browser": (f"page-{'a' * 22}-{'b' * 22}", "400 key-foreign"),
}


@cases("key, told", KEYS)
def test_guests_key_is_judged_as_in_the_request(key: str | None, told: str) -> None:
    assert standing(ask(Client(), "/guests/", key)) == told


def test_guest_who_has_the_key_has_the_answer() -> None:
    order(Client(), "/guests/")

    assert standing(ask(Client(), "/guests/")) == "done 201"


def test_guests_are_refused_where_they_have_no_keys(settings: Any) -> None:
    settings.IDEMPOTENCY_ANONYMOUS = "refuse"

    assert standing(ask(Client(), "/guests/")) == "401 sign-in-required"


UNPROTECTED = {
    "a view without protection": ("/bare/", "POST"),
    "a handler without protection": ("/class/", "PUT"),
    "a method that there isn't": ("/class/", "PATCH"),
    "a safe method": ("/plain/", "GET"),
    "no method": ("/plain/", "post"),
    "a view whose dispatch() is another": ("/worked/", "POST"),
    "a function with a way around": ("/given/", "POST"),
    "a class with a way around": ("/given-class/", "POST"),
    "a handler with a way around": ("/bypassed/", "POST"),
    "a request whose policy protects nothing": ("/free/", "POST"),
    "a dispatch() that asks no handler": ("/works/", "POST"),
    "a protected one that does so": ("/works-decorated/", "POST"),
    "one behind the mixin": ("/behind-mixin/", "POST"),
}


@cases("url, method", UNPROTECTED)
def test_what_could_run_is_refused_and_does_not_run(url: str, method: str) -> None:
    answer = ask(person(), url, method=method)

    assert standing(answer) == "400 ask-invalid"
    assert answer.headers["Cache-Control"] == "no-store"
    assert (scene["runs"], orders()) == (0, 0)


CHANGED = {
    "by the view": "/redirecting/",
    "by a decorator": "/by-another-method/",
    "by a middleware": "/class/?method=PUT",
    "by a middleware, to a safe one": "/class/?method=GET",
}


@cases("url", CHANGED)
def test_question_whose_method_is_changed_is_refused_and_does_not_run(
    url: str, settings: Any
) -> None:
    """The handler of the other method may have no protection, and CSRF isn't checked."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.MethodOverride"]

    answer = ask(person(), url)

    assert standing(answer) == "400"
    assert answer.headers["Cache-Control"] == "no-store"
    assert scene["runs"] == 0


class ReadOnly:
    """As for somebody who looks at the site with another one's eyes."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *view: Any) -> HttpResponse | None:
        return None if request.method == "GET" else HttpResponse(status=403)


JUDGE = f"{__name__}.ReadOnly"
ORDERS: dict[str, tuple[Callable[[list[str]], list[str]], str, int]] = {
    "first": (lambda others: [MIDDLEWARE, *others, JUDGE], "403", 0),
    "after Django's": (lambda others: [*others, MIDDLEWARE, JUDGE], "403", 0),
    "after a judge": (lambda others: [JUDGE, MIDDLEWARE, *others], "done 201", 1),
    "after a stranger": (lambda others: ["no.where", *others, MIDDLEWARE], "", 0),
    "after a function": (lambda others: [f"{__name__}.place", MIDDLEWARE], "", 0),
    "twice": (
        lambda others: [MIDDLEWARE, *others, MIDDLEWARE],
        "400 ask-invalid",
        1,
    ),
    "nowhere": (lambda others: [JUDGE, *others], "200", 0),
}


@cases("listed, told, warnings", ORDERS)
def test_who_judges_the_view_sees_what_is_asked_about_or_check_warns(
    listed: Callable[[list[str]], list[str]], told: str, warnings: int, settings: Any
) -> None:
    order(person(), "/class/")
    settings.MIDDLEWARE = listed(settings.MIDDLEWARE[1:])

    found = check_middleware(None)

    assert [each.id for each in found] == ["django_idempotency.W052"] * warnings
    assert not told or standing(ask(person(), "/class/")) == told


def test_question_with_an_unsafe_method_is_refused_and_does_not_run() -> None:
    """The client has mixed it up; it would be carried out where nobody knows the header."""
    ann = person()
    ann.cookies["csrftoken"] = "a" * 32
    answer = sent(ann, "/plain/", Idempotency_Ask="POST", X_CSRFToken="a" * 32)

    assert standing(answer) == "400 ask-invalid"
    assert scene["runs"] == 0


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_other_safe_methods_are_the_views(method: str) -> None:
    answer = sent(person(), "/class/", b"", method=method, Idempotency_Ask="POST")

    assert (answer.status_code, standing(answer)) == (200, "200")


def test_without_the_middleware_it_is_any_get(settings: Any) -> None:
    settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if each != MIDDLEWARE]
    ann = person()
    order(ann, "/class/")

    assert [ask(ann, "/class/").content, scene["runs"]] == [b"a page", 1]


@pytest.mark.parametrize("reads", [True, False], ids=["row", "no row"])
def test_database_that_can_not_be_asked_is_no_answer(reads: bool) -> None:
    ann = person()
    if reads:
        order(ann, "/guests/")

    def broken(execute: Any, sql: str, *rest: Any) -> Any:
        if "idempotencyrecord" in sql and not sql.startswith("UPDATE"):
            raise _unavailable()
        return execute(sql, *rest)

    with connection.execute_wrapper(broken):
        answer = ask(ann, "/guests/")

    assert standing(answer) == "503 state-unavailable"
    assert answer.headers["Retry-After"] == "1"


def _unavailable() -> OperationalError:
    if connection.vendor == "mysql":
        return OperationalError(1290, "read-only")
    error = OperationalError("read-only")
    if connection.vendor == "sqlite":
        error.__cause__ = type("E", (Exception,), {"sqlite_errorcode": 8})()
    else:
        error.__cause__ = type("E", (Exception,), {"sqlstate": "25006"})()
    return error


def test_database_that_is_not_there_is_no_answer() -> None:
    """Not even where its kind can't be told before the server is asked."""
    away = {"HOST": "127.0.0.1", "PORT": 1, "NAME": "/no/such/place", "OPTIONS": {}}
    ours = frozenset({"django_idempotency"})
    with alias("away", **away), Routes.sending(read="away", write="away", apps=ours):
        words = [standing(act(Client(), "/guests/")) for act in (order, ask)]

    assert words == ["503 store-unavailable", "503 state-unavailable"]
