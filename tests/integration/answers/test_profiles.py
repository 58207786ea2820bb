"""`IDEMPOTENCY_PROFILE`: the ways of others, sentence by sentence of what they publish."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import stripe
from django.conf import LazySettings
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import WSGIRequestHandler, WSGIServer
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView

from django_idempotency.conf import PROFILES, conf
from django_idempotency.contrib import ninja as for_ninja
from django_idempotency.decorators import idempotent
from django_idempotency.http.problems import (
    PROBLEMS,
    RETRY,
    Problem,
    problem_response,
)
from django_idempotency.models import IdempotencyRecord
from django_idempotency.rest_framework import IdempotencyMixin
from tests.support.cases import cases
from tests.support.ordering import orders, send, signed_in_client
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

KEY = "6f1c0d0a-9b38-4f4e-8f5a-0d6a1a3b2c4d"
each_problem = cases("problem", {each.code: each for each in PROBLEMS})


class Sessions(IdempotencyMixin, APIView):
    def post(self, request: Request, name: str = "") -> Response:
        data: Any = request.data
        if data.get("items") == 0:
            raise ValidationError("Nothing to buy.")
        if data.get("items") == 500:
            raise APIException
        order = Order.objects.create()
        return Response({"order": order.pk}, status=201)


@idempotent
def plain(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"order": Order.objects.create().pk}, status=201)


api = NinjaAPI(urls_namespace="profiles")


@api.post("/", response={201: dict[str, int]})
@for_ninja.idempotent
def operation(request: HttpRequest) -> dict[str, int]:
    return {"order": Order.objects.create().pk}


refused: list[str] = []
"""The keys of the requests that were answered with a problem, whatever it was."""


@csrf_exempt
def refuse(request: HttpRequest, code: str) -> HttpResponse:
    refused.append(request.headers["Idempotency-Key"])
    (problem,) = [each for each in PROBLEMS if each.code == code]
    return problem_response(problem, request)


urlpatterns = [
    path("v1/refused/<code>", refuse),
    path("sessions", Sessions.as_view()),
    path("sessions/<name>", Sessions.as_view()),
    path("plain", plain),
    path("ninja/", api.urls),
]


@pytest.fixture
def acp(settings: LazySettings) -> None:
    settings.IDEMPOTENCY_PROFILE = "acp"


def post(
    body: str, key: str | None = KEY, at: str = "/sessions", **headers: str
) -> Any:
    if key is not None:
        headers["Idempotency-Key"] = key
    client = APIClient(raise_request_exception=False)
    return client.post(at, body, content_type="application/json", headers=headers)


def error_of(response: Any) -> tuple[int, str, str]:
    document = response.json()
    assert set(document) == {"type", "code", "message"}
    return response.status_code, document["type"], document["code"]


@pytest.mark.usefixtures("acp")
class TestAcp:
    """Agentic Commerce Protocol, RFC "Agentic Checkout", by its sections."""

    def test_3_1_key_is_echoed_on_every_answer(self) -> None:
        keys = [
            post(body, at=at).headers["Idempotency-Key"]
            for at in ("/sessions", "/plain", "/sessions/refused")
            for body in ("{}", "{}", '{"items": 0}')
        ]

        assert keys == [KEY] * 9

    def test_6_1_request_without_a_key_is_rejected(self) -> None:
        refused = post("{}", key=None)

        assert error_of(refused) == (400, "invalid_request", "idempotency_key_required")
        assert "Idempotency-Key" not in refused.headers
        assert orders() == 0

    @pytest.mark.parametrize("key", ["k" * 255, KEY])
    def test_6_1_key_is_any_text_of_255_characters(self, key: str) -> None:
        assert post("{}", key=key).status_code == 201

    def test_6_1_keys_belong_to_one_path(self) -> None:
        words = [post("{}", at=at).status_code for at in ("/sessions", "/sessions/1")]

        assert (words, orders()) == ([201, 201], 2)

    @cases(
        "other, is_same",
        {
            "order of members": ('{"b": [1, 2], "a": 1}', True),
            "trailing zeros": ('{"a": 1.0, "b": [1, 2.00]}', True),
            "white space": ('{ "a" : 1,"b":[1,2]}', True),
            "null is not absent": ('{"a": 1, "b": [1, 2], "c": null}', False),
            "order of elements": ('{"a": 1, "b": [2, 1]}', False),
            "extension's field": ('{"a": 1, "b": [1, 2], "x-discount": 5}', False),
        },
    )
    def test_6_2_bodies_are_compared_as_json(self, other: str, is_same: bool) -> None:
        first, again = post('{"a": 1, "b": [1, 2]}'), post(other)

        assert first.status_code == 201
        assert again.status_code == (201 if is_same else 422)

    def test_6_2_nothing_but_the_body_is_compared(self) -> None:
        answers = [
            post("{}"),
            post("{}", at="/sessions?locale=de", **{"Accept-Language": "de"}),
            APIClient().post(
                "/sessions",
                "{}",
                content_type="application/json; profile=x",
                headers={"Idempotency-Key": KEY},
            ),
        ]

        assert [each.status_code for each in answers] == [201] * 3
        assert orders() == 1

    @pytest.mark.parametrize("body", ["{}", '{"items": 0}'])
    def test_6_3_repeat_gets_the_original_answer(self, body: str) -> None:
        """Success and error alike, also one that the view has raised."""
        first, again = post(body), post(body)

        assert (first.status_code, first.content) == (again.status_code, again.content)
        assert "Idempotent-Replayed" not in first.headers
        assert again.headers["Idempotent-Replayed"] == "true"
        assert orders() <= 1

    def test_6_4_other_body_is_a_conflict(self) -> None:
        post("{}")

        assert error_of(post("[]")) == (422, "invalid_request", "idempotency_conflict")

    def test_6_5_error_of_the_server_is_not_kept(self) -> None:
        body = '{"items": 500}'
        answers = [post(body) for _ in range(2)]

        assert [each.status_code for each in answers] == [500, 500]
        assert "Idempotent-Replayed" not in answers[1].headers

    def test_6_6_answer_is_kept_for_a_day_at_least(self) -> None:
        post("{}")
        record = IdempotencyRecord.objects.get()

        assert (record.expires_at - record.created_at).days >= 1

    @each_problem
    def test_every_problem_has_the_flat_form(self, problem: Problem, rf: Any) -> None:
        response = problem_response(problem, rf.post("/sessions"))
        document = json.loads(response.content)

        assert response.status_code == problem.status
        kind = "service_unavailable" if problem.status >= 500 else "invalid_request"
        assert (document["type"], set(document)) == (kind, {"type", "code", "message"})
        assert "-" not in document["code"]


@each_problem
def test_stripe_s_clients_raise_an_error_of_idempotency(
    problem: Problem, rf: Any, settings: LazySettings
) -> None:
    """409 is sent again by them, so that it stands only for what passes by itself."""
    settings.IDEMPOTENCY_PROFILE = "stripe"
    response = problem_response(problem, rf.post("/v1/charges"))
    error = json.loads(response.content)["error"]

    kind = "api_error" if problem.status >= 500 else "idempotency_error"
    assert error["type"] == kind
    assert (response.status_code == 409) is (problem.code == "in-flight")
    assert (error.get("code") == "idempotency_key_in_use") is (
        problem.code == "in-flight"
    )
    assert (response.status_code >= 500) is (problem.status >= 500)


def test_requests_of_stripe_s_clients_are_answered_as_they_know_it(
    settings: LazySettings,
) -> None:
    settings.IDEMPOTENCY_PROFILE = "stripe"
    first, again, other = (post(body, at="/plain") for body in ("{}", "{}", "[]"))

    assert [each.status_code for each in (first, again, other)] == [201, 201, 400]
    assert again.content == first.content
    assert again.headers["Idempotent-Replayed"] == "true"
    assert other.json()["error"]["type"] == "idempotency_error"
    assert {each.headers["Idempotency-Key"] for each in (first, again, other)} == {KEY}
    assert orders() == 1


@pytest.fixture
def address() -> Iterator[str]:
    """Where a real server listens."""
    refused.clear()
    with WSGIServer(("127.0.0.1", 0), WSGIRequestHandler) as server:
        server.set_app(WSGIHandler())
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@each_problem
def test_stripe_s_client_sends_again_exactly_what_ends_in_an_answer(
    problem: Problem,
    address: str,
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.IDEMPOTENCY_PROFILE = "stripe"
    monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0)
    monkeypatch.setattr(stripe.HTTPClient, "MAX_DELAY", 0)
    client = stripe.StripeClient(
        "sk_test_x", base_addresses={"api": address}, max_network_retries=2
    )
    is_sent_again = RETRY[problem.code] == "same-key"

    with pytest.raises(stripe.StripeError) as told:
        client.raw_request(
            "post", f"/v1/refused/{problem.code}", idempotency_key=KEY, amount=1
        )

    assert refused == [KEY] * (3 if is_sent_again else 1)
    said = (told.value.headers or {})["Stripe-Should-Retry"]
    assert said == ("true" if is_sent_again else "false")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("at", ["/plain", "/sessions", "/ninja/"])
def test_possible_duplicate_can_be_confirmed(
    at: str, profile: str, settings: LazySettings
) -> None:
    """Its refusal names the first one, by whose name another one is meant."""
    settings.IDEMPOTENCY_PROFILE = profile
    settings.IDEMPOTENCY_INTENT_WINDOW = timedelta(seconds=30)
    client = signed_in_client()
    first, refused = (send(client, at, key=key) for key in ("K1", "K2"))
    document = refused.json()
    told = document.get("error", document)["first"]["reference"]

    assert told == first.headers["Idempotency-Reference"]
    confirmed = send(client, at, key="K2", Idempotency_Confirm=told)
    assert [each.status_code for each in (first, confirmed)] == [201, 201]


@pytest.mark.parametrize("profile", PROFILES)
@each_problem
def test_customer_who_has_sent_a_form_reads_a_page(
    problem: Problem, profile: str, rf: Any, settings: LazySettings
) -> None:
    """The project's API speaks like another one; its shop and its admin don't."""
    browser = {"HTTP_ACCEPT": "text/html,*/*;q=0.8"}
    own = problem_response(problem, rf.post("/pay/", **browser))
    settings.IDEMPOTENCY_PROFILE = profile
    page = problem_response(problem, rf.post("/pay/", **browser))

    assert page.headers["Content-Type"].startswith("text/html")
    assert (page.status_code, page.content) == (own.status_code, own.content)


@pytest.mark.parametrize("profile", PROFILES)
def test_what_the_project_sets_itself_goes_before_its_profile(
    profile: str, settings: LazySettings
) -> None:
    before = conf.IDEMPOTENCY_REPLAYED_HEADER
    settings.IDEMPOTENCY_PROFILE = profile
    assert (before, conf.IDEMPOTENCY_REPLAYED_HEADER) == (
        "Idempotency-Replayed",
        "Idempotent-Replayed",
    )

    settings.IDEMPOTENCY_REPLAYED_HEADER = "X-Again"
    assert conf.IDEMPOTENCY_REPLAYED_HEADER == "X-Again"
