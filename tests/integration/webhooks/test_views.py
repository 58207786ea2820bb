"""Receivers as views: what reaches them, and what is answered before any event."""

from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import resolve

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import Event, WebhookView, on, providers, webhook
from tests.integration.webhooks.receivers import (
    PUBLIC_URL,
    marks,
    scene,
    states,
    urlpatterns,
)
from tests.support.deliveries import SECRET, Sent, deliver, slack, square, stripe
from tests.testapp.models import Order

pytestmark = marks

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
]


@pytest.mark.parametrize("path", ["/inline/", "/payments/", "/inbox/"])
def test_no_login_or_csrf_stands_in_the_way(path: str, settings: Any) -> None:  # F46
    settings.MIDDLEWARE = MIDDLEWARE
    assert deliver(path, stripe(), Client(enforce_csrf_checks=True)).status_code == 200


@pytest.mark.parametrize("path", ["/inline/", "/payments/", "/rest/"])
def test_atomic_requests_doesnt_undo_what_is_noted(path: str, settings: Any) -> None:
    """F7: the failure stays, and the handler's writes go."""
    scene.failures.append(ValueError())
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        assert deliver(path, stripe()).status_code == 500
        assert states() == {"evt_1": "failed"}
        assert Order.objects.count() == 0
        assert deliver(path, stripe()).status_code == 200
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False
    assert Order.objects.count() == 1


def test_delivery_joins_a_transaction_that_is_open() -> None:
    """As under a middleware of the project's own; then the promise is its."""
    view: Any = resolve("/inline/").func
    sent = stripe()
    request = RequestFactory().post(
        "/inline/", sent.body, content_type="application/json", headers=sent.headers
    )
    with transaction.atomic():
        assert view(request).status_code == 200
        transaction.set_rollback(True)

    assert not ProcessedEvent.objects.exists()
    assert not Order.objects.exists()


@pytest.mark.parametrize("method", ["get", "head"])
def test_probe_is_answered(method: str) -> None:  # F45
    for pattern in urlpatterns:
        response = getattr(Client(), method)(f"/{pattern.pattern}")
        assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize("method", ["put", "patch", "delete", "options"])
def test_other_methods_are_refused(method: str) -> None:
    response: HttpResponse = getattr(Client(), method)("/inline/")

    assert (response.status_code, response["Allow"]) == (405, "GET, HEAD, POST")


def test_signed_challenge_is_answered_without_an_event() -> None:  # F45
    sent = slack(type="url_verification", challenge="3eZbrw1a")
    forged = Sent(sent.body.replace(b"3e", b"4e"), sent.headers)
    answer = deliver("/slack/", sent)

    assert (answer.status_code, answer.content) == (200, b"3eZbrw1a")
    assert deliver("/slack/", forged).status_code == 401
    assert not ProcessedEvent.objects.exists()


def test_event_beside_a_challenge_is_handled() -> None:
    sent = slack(type="event_callback", event_id="Ev1", event={"type": "message"})

    assert deliver("/slack/", sent).status_code == 200
    assert scene.handled == ["Ev1"]


def test_forged_delivery_leaves_nothing_for_the_real_one_to_meet() -> None:
    """F18, FR-093: the body is byte for byte what was signed."""
    sent = stripe()
    changed = Sent(sent.body.replace(b": ", b":"), sent.headers)

    for forged in (stripe(secret="guess"), changed):  # noqa: S106
        assert deliver("/inline/", forged).status_code == 401
    assert not ProcessedEvent.objects.exists()
    assert deliver("/inline/", sent).status_code == 200
    assert [event.raw for event in scene.events] == [sent.body]


def test_body_that_a_middleware_has_used_up_is_told_of(settings: Any) -> None:  # F20
    settings.MIDDLEWARE = [f"{__name__}.read_the_body"]
    assert deliver("/inline/", stripe()).status_code == 200
    settings.MIDDLEWARE = [f"{__name__}.use_the_body_up"]
    with pytest.raises(ImproperlyConfigured, match="read the body before"):
        Client().post("/inline/", b"{}", content_type="application/json")


def read_the_body(get_response: Any) -> Any:
    return lambda request: get_response(request) if request.body else None


def use_the_body_up(get_response: Any) -> Any:
    return lambda request: get_response(request) if request.read() else None


@pytest.mark.parametrize("excess", [0, 1])
def test_body_over_the_limit_is_refused_early(
    excess: int, settings: Any
) -> None:  # F36
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100  # ours counts, not Django's
    room = 2000 - len(stripe(note="").body) + excess
    sent = stripe(note="x" * room)

    assert deliver("/small/", sent).status_code == (413 if excess else 200)
    assert ProcessedEvent.objects.count() == (0 if excess else 1)


def test_body_of_unknown_length_is_limited_too() -> None:  # F36
    sent = stripe(note="x" * 5000)

    assert deliver("/small/", sent, CONTENT_LENGTH="").status_code in {400, 401, 413}
    assert not ProcessedEvent.objects.exists()


@pytest.mark.parametrize("path", ["/without-secret/", "/failing-secrets/"])
def test_without_a_secret_nothing_is_verified(path: str) -> None:  # F47
    for secret in ("", " ", SECRET):
        answer = deliver(path, stripe(secret=secret))
        assert (answer.status_code, answer["Retry-After"]) == (503, "60")
    assert scene.events == []


def test_secret_is_rotated_without_a_gap() -> None:  # F16
    for number, secret in enumerate([SECRET, "newer"]):
        sent = stripe(f"evt_{number}", secret=secret)
        assert deliver("/rotating/", sent).status_code == 200
    assert deliver("/rotating/", stripe(secret="oldest")).status_code == 401  # noqa: S106


def test_public_address_is_what_was_signed() -> None:  # F37
    for number, host in enumerate(["testserver", "localhost"]):
        sent = square(f"sq_{number}", url=PUBLIC_URL)
        assert deliver("/square/", sent, HTTP_HOST=host).status_code == 200
    spoofed = square("sq_3", url="http://testserver/square/")
    assert deliver("/square/", spoofed).status_code == 401


@pytest.mark.postgresql
@pytest.mark.parametrize("path", ["/inline/", "/inbox/"])
def test_database_that_is_away_asks_for_another_delivery(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.close()
    with monkeypatch.context() as away:
        away.setitem(connection.settings_dict, "PORT", "1")
        answer = deliver(path, stripe())

    assert answer.status_code == 503
    assert answer["Retry-After"]
    assert deliver(path, stripe()).status_code == 200


@pytest.mark.parametrize("path", ["/payments/", "/rest/"])
def test_types_are_routed_to_their_methods(path: str) -> None:  # F11
    for number, name in enumerate(["invoice.paid", "invoice.settled", "other"]):
        for _ in range(2):
            sent = stripe(f"evt_{number}", type=name)
            assert deliver(path, sent).status_code == 200

    assert scene.handled == ["evt_0", "evt_1"]
    assert states() == {"evt_0": "processed", "evt_1": "processed", "evt_2": "ignored"}
    ignored = ProcessedEvent.objects.get(event_id="evt_2")
    assert (bytes(ignored.payload or b""), ignored.attempts) == (sent.body, 1)


class Stripes(WebhookView):
    profile = providers.STRIPE
    secrets: ClassVar[Any] = SECRET


class Base(Stripes):
    @on("a", "b")
    def first(self, event: Event) -> str:
        return "base"

    @on("c")
    def second(self, event: Event) -> str:
        return "base"


class Derived(Base):
    endpoint = "derived"

    def first(self, event: Event) -> str:  # routed as its base's
        return "derived"

    @on("c", "d")
    def third(self, event: Event) -> str:
        return "third"


def test_subclass_overrides_methods_and_routes() -> None:
    endpoint = Derived.as_endpoint()
    events: dict[str, Any] = {name: SimpleNamespace(type=name) for name in "abcde"}
    answers = {name: endpoint.handler(events[name]) for name in "abcd"}

    assert answers == {"a": "derived", "b": "derived", "c": "third", "d": "third"}
    assert not endpoint.handles(events["e"])


def test_type_has_one_method_and_each_method_a_type() -> None:
    class Twice(Stripes):
        @on("a")
        def first(self, event: Event) -> None: ...

        @on("a")
        def second(self, event: Event) -> None: ...

    with pytest.raises(ImproperlyConfigured, match="two methods, first and second"):
        Twice.as_view()
    for types in ((), (print,)):
        with pytest.raises(ImproperlyConfigured, match="Name the types"):
            on(*types)


def test_async_handler_is_refused_where_it_is_written() -> None:  # F44
    async def paid(*arguments: Any) -> None: ...

    with pytest.raises(ImproperlyConfigured, match="async"):
        on("a")(paid)
    with pytest.raises(ImproperlyConfigured, match="def paid"):
        webhook(providers.STRIPE, secrets=SECRET, endpoint="async")(paid)


def test_identity_of_a_class_counts() -> None:
    class ByType(Stripes):
        def identity(self, event: Event) -> str:
            return event.type

    assert ByType.as_endpoint().identity is not None
    assert Base.as_endpoint().identity is None


@pytest.mark.parametrize("kind", ["function", "static", "inherited"])
def test_secrets_of_a_class_may_be_a_function(kind: str) -> None:
    class Called(Stripes):
        secrets = staticmethod(lambda: ["s"]) if kind == "static" else lambda: ["s"]

    class Inherited(Called):
        pass

    view = Inherited if kind == "inherited" else Called
    assert view.as_endpoint().current_secrets() == ("s",)


def test_decorated_handler_keeps_its_name_and_can_be_tested_alone() -> None:
    @webhook(providers.STRIPE, secrets=SECRET, endpoint="named")
    def paid(event: Event) -> str:
        """Mark it paid."""
        return event.id

    assert (paid.__name__, paid.__doc__) == ("paid", "Mark it paid.")
    assert paid.__wrapped__  # type: ignore[attr-defined]


# What REST framework could do to a receiver.


def test_refusals_are_alike() -> None:
    too_large = stripe(note="x" * 1024 * 1024)
    answers = {
        401: deliver("/rest/", stripe(secret="guess")),  # noqa: S106
        400: deliver("/rest/", stripe(None)),
        413: deliver("/rest/", too_large),
        405: Client().put("/rest/"),
        200: Client().get("/rest/"),
    }

    assert list(answers) == [answer.status_code for answer in answers.values()]
    assert not ProcessedEvent.objects.exists()


@pytest.mark.parametrize("url", ["/rest/", "/strict/", "/curious/"])
def test_nothing_of_the_framework_stands_in_the_way(url: str, settings: Any) -> None:
    """F20: nor does a parsed body use the raw one up."""
    settings.MIDDLEWARE = MIDDLEWARE
    answer = deliver(
        url,
        stripe(),
        Client(enforce_csrf_checks=True),
        HTTP_ACCEPT="application/unknown; version=9",
        HTTP_AUTHORIZATION="Basic !",
        query_params={"format": "unknown"},
    )
    assert answer.status_code == 200
    assert scene.handled == ["evt_1"]
