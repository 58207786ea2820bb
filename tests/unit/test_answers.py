from __future__ import annotations

import pytest
from django.http import (
    FileResponse,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.test import override_settings
from django.utils import translation
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.answers import is_login_redirect, replay_of, snapshot
from django_idempotency.conf import DEFAULT_HEADER_DENY_LIST
from django_idempotency.operations import StoredAnswer
from django_idempotency.policies import IdempotencyPolicy

POLICY = IdempotencyPolicy()
REPLAYED = {"Idempotency-Replayed": "true"}


def again(
    response: HttpResponseBase, policy: IdempotencyPolicy = POLICY
) -> HttpResponse:
    return replay_of(snapshot(response, policy))


@pytest.mark.parametrize("status", [200, 201, 202, 204, 303, 304, 400, 404, 422, 599])
def test_status_is_the_first(status: int) -> None:
    assert again(HttpResponse(status=status)).status_code == status


@given(st.binary())
def test_body_is_the_first_byte_by_byte(body: bytes) -> None:
    assert again(HttpResponse(body)).content == body


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(HttpResponse("é", charset="latin-1"), id="other-charset"),
        pytest.param(HttpResponse(b"", content_type="text/csv"), id="empty-csv"),
        pytest.param(JsonResponse({"a": 1}), id="json"),
        pytest.param(HttpResponseRedirect("/orders/1/"), id="redirect"),
        pytest.param(
            HttpResponse(headers={"ETag": '"1"', "Link": "</a>; rel=next"}), id="etag"
        ),
        pytest.param(HttpResponse(headers={"X-Name": "café"}), id="latin-1"),
        pytest.param(HttpResponse(headers={"X-Name": "Ж 😀"}), id="mime-encoded"),
        pytest.param(HttpResponse(headers={"X-Name": ""}), id="empty-value"),
        pytest.param(HttpResponse(headers={"x-nAME": "a"}), id="case-of-a-name"),
        pytest.param(
            HttpResponse(b"\x1f\x8b", headers={"Content-Encoding": "gzip"}), id="gzip"
        ),
    ],
)
def test_headers_are_the_first_ones_and_the_mark(response: HttpResponse) -> None:
    assert dict(again(response).headers) == {**response.headers, **REPLAYED}


def test_no_content_type_is_invented() -> None:
    response = HttpResponse(status=204)
    del response.headers["Content-Type"]

    assert dict(again(response).headers) == REPLAYED


@pytest.mark.parametrize("header", DEFAULT_HEADER_DENY_LIST)
def test_header_of_one_exchange_is_not_stored(header: str) -> None:
    response = HttpResponse(headers={header.swapcase(): "x", "Content-Type": "a/b"})

    assert snapshot(response, POLICY).headers == (("Content-Type", "a/b"),)


def test_cookie_is_not_stored() -> None:
    response = HttpResponse(headers={"Content-Type": "a/b"})
    response.set_cookie("sessionid", "secret")

    assert snapshot(response, POLICY).headers == (("Content-Type", "a/b"),)


@pytest.mark.parametrize("header", ["Idempotency-Replayed", "idempotency-replay"])
def test_view_cannot_mark_its_first_answer_for_the_replay(header: str) -> None:
    response = HttpResponse(headers={header: "x", "Content-Type": "a/b"})

    assert snapshot(response, POLICY).headers == (("Content-Type", "a/b"),)


@override_settings(IDEMPOTENCY_HEADER_DENY_LIST=["x-request-ID"])
def test_deny_list_of_the_project_is_used() -> None:
    response = HttpResponse(headers={"X-Request-Id": "7", "Content-Type": "a/b"})

    assert snapshot(response, POLICY).headers == (("Content-Type", "a/b"),)


@override_settings(IDEMPOTENCY_REPLAYED_HEADER="X-Replay")
def test_mark_has_the_configured_name() -> None:
    response = HttpResponse(headers={"Content-Type": "a/b"})

    assert dict(again(response).headers) == {"Content-Type": "a/b", "X-Replay": "true"}


def test_nul_in_a_header_does_not_reach_the_database() -> None:
    response = HttpResponse(headers={"X-Name": "a\0b", "Content-Type": "a/b"})

    assert snapshot(response, POLICY).headers == (
        ("X-Name", "ab"),
        ("Content-Type", "a/b"),
    )


@pytest.mark.parametrize(
    ("response", "policy"),
    [
        pytest.param(StreamingHttpResponse(iter([b"x"])), POLICY, id="streaming"),
        pytest.param(FileResponse(iter([b"x"])), POLICY, id="file"),
        pytest.param(
            HttpResponse(b"x"), IdempotencyPolicy(keep_body=False), id="unwanted"
        ),
        pytest.param(HttpResponse(b"xx"), IdempotencyPolicy(max_body=1), id="too-long"),
    ],
)
def test_body_that_cannot_be_kept_is_omitted_and_says_so(
    response: HttpResponseBase, policy: IdempotencyPolicy
) -> None:
    replay = again(response, policy)

    assert (replay.content, replay.headers["Idempotency-Replay"]) == (b"", "omitted")


@pytest.mark.parametrize("size", [0, 1, 10])
def test_largest_body_is_kept(size: int) -> None:
    policy = IdempotencyPolicy(max_body=size)

    assert snapshot(HttpResponse(b"x" * size), policy).body == b"x" * size


@override_settings(IDEMPOTENCY_MAX_BODY=1)
def test_setting_says_how_much_is_kept() -> None:
    assert snapshot(HttpResponse(b"xx"), POLICY).body is None


def test_omitted_body_is_not_said_to_be_encoded() -> None:
    response = HttpResponse(b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    replay = again(response, IdempotencyPolicy(keep_body=False))

    assert "Content-Encoding" not in replay.headers


def test_empty_body_is_not_an_omitted_one() -> None:
    assert "Idempotency-Replay" not in again(HttpResponse(b"")).headers


@pytest.mark.parametrize(
    ("middleware", "expected"),
    [
        pytest.param(["django.middleware.locale.LocaleMiddleware"], "fr", id="with"),
        pytest.param(["tests.unit.middleware.OwnLocaleMiddleware"], "fr", id="own"),
        pytest.param(["tests.unit.middleware.passing"], None, id="function"),
        pytest.param([], None, id="without"),
    ],
)
def test_language_of_the_answer_is_kept_where_middleware_would_announce_it(
    middleware: list[str], expected: str | None
) -> None:
    with override_settings(MIDDLEWARE=middleware), translation.override("fr"):
        answer = snapshot(HttpResponse(), POLICY)

    assert replay_of(answer).headers.get("Content-Language") == expected


@override_settings(MIDDLEWARE=["django.middleware.locale.LocaleMiddleware"])
def test_language_that_the_view_set_is_kept() -> None:
    response = HttpResponse(headers={"Content-Language": "de"})
    with translation.override("fr"):
        answer = snapshot(response, POLICY)

    assert replay_of(answer).headers["Content-Language"] == "de"


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        pytest.param(HttpResponseRedirect("/login/"), True, id="bare"),
        pytest.param(HttpResponseRedirect("/login/?next=/pay/"), True, id="next"),
        pytest.param(HttpResponseRedirect("https://x.test/login/"), True, id="host"),
        pytest.param(HttpResponseRedirect("/orders/"), False, id="elsewhere"),
        pytest.param(HttpResponseRedirect("/login/2/"), False, id="below"),
        pytest.param(
            HttpResponse(status=201, headers={"Location": "/login/"}), False, id="201"
        ),
        pytest.param(HttpResponse(status=302), False, id="no-location"),
    ],
)
@override_settings(LOGIN_URL="/login/")
def test_redirect_to_sign_in(response: HttpResponse, expected: bool) -> None:
    assert is_login_redirect(response) is expected


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        pytest.param("https://id.test/login?next=x", True, id="same-host"),
        pytest.param("https://shop.test/login", False, id="another-host"),
    ],
)
@override_settings(LOGIN_URL="https://id.test/login")
def test_redirect_to_sign_in_elsewhere(location: str, expected: bool) -> None:
    assert is_login_redirect(HttpResponseRedirect(location)) is expected


@override_settings(LOGIN_URL="no-such-view")
def test_login_url_that_leads_nowhere_is_no_error() -> None:
    assert is_login_redirect(HttpResponseRedirect("/login/")) is False


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param((), b"", id="nothing"),
        pytest.param((("X-Name", "a"),), None, id="omitted"),
    ],
)
def test_stored_answer_without_content_type_gets_none(
    headers: tuple[tuple[str, str], ...], body: bytes | None
) -> None:
    answer = StoredAnswer(status=200, headers=headers, body=body)

    assert "Content-Type" not in replay_of(answer).headers
