from dataclasses import replace
from typing import Any

import pytest
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase, HttpResponseRedirectBase
from django.middleware.locale import LocaleMiddleware
from django.test import RequestFactory, override_settings
from django.utils import translation
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.conf import DEFAULT_HEADER_DENY_LIST
from django_idempotency.core.operations import StoredAnswer
from django_idempotency.http.answers import is_sent_to_sign_in, replay_of, snapshot
from django_idempotency.policies import IdempotencyPolicy
from tests.support.cases import cases

POLICY = IdempotencyPolicy()
REPLAYED = {"Idempotency-Replayed": "true"}


def kept(
    response: HttpResponseBase, policy: IdempotencyPolicy = POLICY
) -> StoredAnswer:
    return snapshot(response, policy, HttpRequest())


def again(
    response: HttpResponseBase, policy: IdempotencyPolicy = POLICY
) -> HttpResponse:
    return replay_of(kept(response, policy), HttpRequest())


@pytest.mark.parametrize("status", [200, 201, 202, 204, 303, 304, 400, 404, 422, 599])
def test_status_is_the_first(status: int) -> None:
    assert again(HttpResponse(status=status)).status_code == status


@given(st.binary())
def test_body_is_the_first_byte_by_byte(body: bytes) -> None:
    assert again(HttpResponse(body)).content == body


@cases(
    "response",
    {
        "other-charset": HttpResponse("é", charset="latin-1"),
        "empty-csv": HttpResponse(b"", content_type="text/csv"),
        "json": JsonResponse({"a": 1}),
        "redirect": HttpResponseRedirect("/orders/1/"),
        "etag": HttpResponse(headers={"ETag": '"1"', "Link": "</a>; rel=next"}),
        "latin-1": HttpResponse(headers={"X-Name": "café"}),
        "mime-encoded": HttpResponse(headers={"X-Name": "Ж 😀"}),
        "empty-value": HttpResponse(headers={"X-Name": ""}),
        "case-of-a-name": HttpResponse(headers={"x-nAME": "a"}),
        "gzip": HttpResponse(b"\x1f\x8b", headers={"Content-Encoding": "gzip"}),
    },
)
def test_headers_are_the_first_ones_and_the_mark(response: HttpResponse) -> None:
    assert dict(again(response).headers) == {**response.headers, **REPLAYED}


@pytest.mark.parametrize("keep_body", [True, False])
def test_no_content_type_is_invented(keep_body: bool) -> None:
    response = HttpResponse(status=204)
    del response.headers["Content-Type"]
    replay = again(response, IdempotencyPolicy(keep_body=keep_body))

    assert "Content-Type" not in replay.headers


def stored(response: HttpResponse) -> dict[str, str]:
    """The headers that are kept of it, besides the type of its content."""
    headers = dict(kept(response).headers)
    del headers["Content-Type"]
    return headers


def test_headers_and_cookies_of_one_exchange_are_not_stored() -> None:
    denied = {each.swapcase(): "x" for each in DEFAULT_HEADER_DENY_LIST}
    response = HttpResponse(headers={**denied, "Content-Type": "a/b"})
    response.set_cookie("sessionid", "secret")

    assert stored(response) == {}


@pytest.mark.parametrize("denied", [[], ["X-Name"], ["Date", "Server"]], ids=repr)
@pytest.mark.parametrize("name", ["Set-Cookie", "set-cookie", "SET-COOKIE"])
def test_no_list_of_the_project_brings_cookies_back(
    name: str, denied: list[str]
) -> None:
    response = HttpResponse(headers={name: "a=b", "Content-Type": "a/b"})
    response.set_cookie("sessionid", "secret")
    with override_settings(IDEMPOTENCY_HEADER_DENY_LIST=denied):
        assert stored(response) == {}
        answer = replace(kept(HttpResponse()), headers=((name, "a=b"),))
        replay = replay_of(answer, HttpRequest())

    assert (replay.cookies.output(), name in replay.headers) == ("", False)


@pytest.mark.parametrize("header", ["Idempotency-Replayed", "idempotency-replay"])
def test_view_cannot_mark_its_first_answer_for_the_replay(header: str) -> None:
    assert stored(HttpResponse(headers={header: "x"})) == {}


@override_settings(IDEMPOTENCY_HEADER_DENY_LIST=["x-request-ID"])
def test_deny_list_of_the_project_is_used() -> None:
    assert stored(HttpResponse(headers={"X-Request-Id": "7"})) == {}


@override_settings(IDEMPOTENCY_REPLAYED_HEADER="X-Replay")
def test_mark_has_the_configured_name() -> None:
    response = HttpResponse(headers={"Content-Type": "a/b"})

    assert dict(again(response).headers) == {"Content-Type": "a/b", "X-Replay": "true"}


def test_nul_in_a_header_does_not_reach_the_database() -> None:
    assert stored(HttpResponse(headers={"X-Name": "a\0b"})) == {"X-Name": "ab"}


@cases(
    "response, policy",
    {
        "streaming": (StreamingHttpResponse(iter([b"x"])), POLICY),
        "file": (FileResponse(iter([b"x"])), POLICY),
        "unwanted": (HttpResponse(b"x"), IdempotencyPolicy(keep_body=False)),
        "too-long": (HttpResponse(b"xx"), IdempotencyPolicy(max_body=1)),
    },
)
def test_body_that_cannot_be_kept_is_omitted_and_says_so(
    response: HttpResponseBase, policy: IdempotencyPolicy
) -> None:
    replay = again(response, policy)

    assert (replay.content, replay.headers["Idempotency-Replay"]) == (b"", "omitted")


@pytest.mark.parametrize("size", [0, 1, 10])
def test_largest_body_is_kept(size: int) -> None:
    policy = IdempotencyPolicy(max_body=size)

    assert kept(HttpResponse(b"x" * size), policy).body == b"x" * size


@override_settings(IDEMPOTENCY_MAX_BODY=1)
def test_setting_says_how_much_is_kept() -> None:
    assert kept(HttpResponse(b"xx")).body is None


def test_omitted_body_is_not_said_to_be_encoded() -> None:
    response = HttpResponse(b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    replay = again(response, IdempotencyPolicy(keep_body=False))

    assert "Content-Encoding" not in replay.headers


def test_empty_body_is_not_an_omitted_one() -> None:
    assert "Idempotency-Replay" not in again(HttpResponse(b"")).headers


class OwnLocaleMiddleware(LocaleMiddleware):
    """A project's own, as many have it."""


def passing(get_response: Any) -> Any:
    return get_response


@cases(
    "middleware, expected",
    {
        "with": (["django.middleware.locale.LocaleMiddleware"], "fr"),
        "own": ([f"{__name__}.OwnLocaleMiddleware"], "fr"),
        "function": ([f"{__name__}.passing"], None),
        "without": ([], None),
    },
)
def test_language_of_the_answer_is_kept_where_middleware_would_announce_it(
    middleware: list[str], expected: str | None
) -> None:
    with override_settings(MIDDLEWARE=middleware), translation.override("fr"):
        answer = kept(HttpResponse())

    assert replay_of(answer, HttpRequest()).headers.get("Content-Language") == expected


@override_settings(MIDDLEWARE=["django.middleware.locale.LocaleMiddleware"])
def test_language_that_the_view_set_is_kept() -> None:
    response = HttpResponse(headers={"Content-Language": "de"})
    with translation.override("fr"):
        answer = kept(response)

    assert replay_of(answer, HttpRequest()).headers["Content-Language"] == "de"


def redirects(*to: str) -> dict[str, HttpResponse]:
    return {location: HttpResponseRedirect(location) for location in to}


CHECKED = redirects(
    "/login/?next=/pay%C3%A9/",
    "/login/?x=1&next=/pay%25C3%25A9/%3Fcart%3D7",
    "http://testserver/login/?next=http://testserver/pay%25C3%25A9/",
)
OTHERS = {
    "created": HttpResponse(status=201, headers={"Location": "/login/?next=/payé/"}),
    "nowhere": HttpResponse(status=302),
    **redirects(
        "/login/",
        "/login/?next=/account/",
        "/login/?back=/payé/",
        "/login/2/?next=/payé/",
        "/orders/?next=/payé/",
        "https://id.test/login/?next=/payé/",
    ),
}


@cases(
    "response, expected",
    {name: (each, True) for name, each in CHECKED.items()}
    | {name: (each, False) for name, each in OTHERS.items()},
)
@override_settings(LOGIN_URL="/login/")
def test_redirect_of_an_access_check(response: HttpResponse, expected: bool) -> None:
    request = RequestFactory().post("/payé/?cart=7")

    assert is_sent_to_sign_in(response, request) is expected


@pytest.mark.parametrize(
    ("login_url", "location", "expected"),
    [
        ("https://id.test/login", "https://id.test/login?next=/pay/", True),
        ("https://id.test/login", "https://shop.test/login?next=/pay/", False),
        ("/", "/?next=/pay/", True),
        ("/", "/", False),
        ("no-such-view", "/login/?next=/pay/", False),
        (None, "/login/?next=/pay/", False),
    ],
)
def test_sign_in_page_is_the_one_of_the_settings(
    login_url: str | None, location: str, expected: bool
) -> None:
    request = RequestFactory().post("/pay/")

    with override_settings(LOGIN_URL=login_url):
        assert is_sent_to_sign_in(HttpResponseRedirect(location), request) is expected


class AppRedirect(HttpResponseRedirect):
    allowed_schemes = ["shop"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/thanks/?a=%C3%A9", "https://x.test/é"])
def test_redirect_comes_back_as_one(location: str, status: int) -> None:
    replay = again(HttpResponseRedirect(location, content=b"there", status=status))

    assert isinstance(replay, HttpResponseRedirectBase)
    assert replay.url == HttpResponseRedirect(location).url
    assert (replay.status_code, replay.content) == (status, b"there")


@pytest.mark.parametrize(
    "first",
    [AppRedirect("shop://order/1"), HttpResponse(status=302), HttpResponse(status=304)],
    ids=["scheme-of-an-app", "nowhere", "not-modified"],
)
def test_what_django_would_not_redirect_is_replayed_all_the_same(
    first: HttpResponse,
) -> None:
    replay = again(first)

    assert replay.status_code == first.status_code
    assert dict(replay.headers) == {**first.headers, **REPLAYED}


@cases(
    "attributes",
    {
        "surrogate": {"_reason_phrase": "\udcff"},
        "newline": {"_reason_phrase": "a\nb"},
        "none": {"_reason_phrase": None, "_charset": None},
        "object": {"_csp_config": {"img-src": object()}},
        "mixed-set": {"_csp_config": {"img-src": {1, "a"}}},
        "text": {"_csp_config": "img-src 'self'"},
        "of-one-exchange": {"_has_been_logged": True, "closed": True, "client": 1},
    },
)
def test_attribute_that_cannot_be_stored_is_left_out(
    attributes: dict[str, Any],
) -> None:
    response = HttpResponse()
    vars(response).update(attributes)

    assert kept(response).extras == {}


@pytest.mark.parametrize("kind", [HttpResponse, JsonResponse])
def test_ordinary_answer_has_nothing_to_remember_beside(kind: Any) -> None:
    assert kept(kind({})).extras == {}
