"""The clients for protected APIs before a server at which anything can happen."""

import asyncio
import gzip
import io
import json
import pickle
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import requests
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from urllib3 import Timeout

from django_idempotency.contrib.httpx import (
    AsyncIdempotentTransport,
    IdempotentTransport,
)
from django_idempotency.contrib.requests import IdempotentAdapter
from django_idempotency.contrib.retries import (
    Retries,
    operation_key,
    possible_duplicate,
)
from tests.support.calling import CALLERS, QUICK, Caller, Lost, with_httpx
from tests.support.cases import cases
from tests.support.pages import blocks, run
from tests.support.wire import (
    Act,
    Exchange,
    Wire,
    answer,
    ended,
    lose,
    lose_half,
    never_answer,
    problem,
    wire,
)

all_callers = cases("call", CALLERS)
SECRET = "of the shop, and no other"  # noqa: S105 - nobody's
THREE = Retries(
    tries=3,
    first_pause=timedelta(milliseconds=1),
    longest_pause=timedelta(milliseconds=2),
)

AGAIN: dict[str, Act] = {
    "lost": lose,
    "half": lose_half,
    "in flight": problem(409, "in-flight", "same-key"),
    "in flight, untold": problem(409, "in-flight"),
    "unfinished": problem(409, "unfinished", "same-key"),
    "unavailable": problem(503, "store-unavailable", "same-key"),
    **{str(status): answer(status) for status in (408, 425, 429, 500, 502, 503, 504)},
}
LAST: dict[str, Act] = {
    "unknown outcome": problem(409, "outcome-unknown", "no"),
    "reused": problem(422, "key-reused", "new-key"),
    "sign in": problem(401, "sign-in-required", "no"),
    "too much, for good": problem(429, "…", "no"),
    "another key, with 503": problem(503, "…", "new-key"),
    **{
        str(status): answer(status)
        for status in (200, 201, 303, 400, 401, 402, 403, 404, 405, 409, 410, 413, 422)
    },
    **{f"{status}, kept": ended(status) for status in (201, 402, 409, 429, 500, 503)},
}


@pytest.fixture(scope="module")
def server() -> Iterator[Wire]:
    with wire() as it:
        yield it


# One after the other in a single test each: a client for every status takes seconds.
@all_callers
def test_same_key_is_sent_until_there_is_an_answer(server: Wire, call: Caller) -> None:
    for name, act in AGAIN.items():
        server.will(act, act, ended(201))
        assert call(server.address).status == 201, name
        assert len(server.keys) == 3, name
        assert len(set(server.keys)) == 1, name
        assert len({(each.method, each.body) for each in server.requests}) == 1, name


@all_callers
def test_other_answers_are_the_last(server: Wire, call: Caller) -> None:
    for name, act in LAST.items():
        server.will(act)
        call(server.address)
        assert len(server.requests) == 1, name


@settings(deadline=None, max_examples=40)
@given(data=st.data())
@all_callers
def test_no_second_key_is_ever_sent_within_a_call(
    server: Wire, call: Caller, data: st.DataObject
) -> None:
    every = AGAIN | LAST
    names = data.draw(st.lists(st.sampled_from([*AGAIN] * 3 + [*LAST]), min_size=1))
    server.will(*(every[name] for name in names), ended(200))
    given_key = data.draw(st.sampled_from([None, "K-1", '"K-2"']))
    headers = {} if given_key is None else {"Idempotency-Key": given_key}
    told = server.keys[-1:]
    try:
        call(server.address, THREE, headers=headers)
    except Lost as lost:
        told = [lost.key]

    expected = failures = 0
    for name in [*names, "201, kept"]:
        expected += 1
        failures += not name.startswith("in flight")
        if name in LAST or failures == THREE.tries:
            break
    assert len(server.keys) == expected
    assert len(set(server.keys)) == 1
    assert given_key in (None, server.keys[0])
    assert told in ([], server.keys[:1])


@all_callers
def test_two_calls_have_two_keys(server: Wire, call: Caller) -> None:
    server.will(ended(201))
    for _ in range(2):
        call(server.address)

    assert len(set(server.keys)) == 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@all_callers
def test_safe_request_passes_as_it_is(server: Wire, call: Caller, method: str) -> None:
    server.will(answer(503, b""))

    assert call(server.address, method=method, json=None).status == 503
    assert server.keys == [None]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@all_callers
def test_unsafe_request_has_a_key(server: Wire, call: Caller, method: str) -> None:
    server.will(lose, ended(200))
    call(server.address, method=method)

    assert [each.method for each in server.requests] == [method] * 2
    assert len(set(server.keys)) == 1
    assert server.keys[0]


@cases("act, status", {"lost": (lose, None), "500": (answer(500), 500)})
@all_callers
def test_last_failure_is_told_after_so_many_tries(
    server: Wire, call: Caller, act: Act, status: int | None
) -> None:
    server.will(act)
    if status is None:
        with pytest.raises(Lost) as lost:
            call(server.address, THREE)
        assert lost.value.key == server.keys[0] is not None
    else:
        assert call(server.address, THREE).status == status

    assert len(server.requests) == 3


@cases("options", {"the caller's": {"timeout": 0.25}, "the attempt's": {}})
@all_callers
def test_attempt_without_an_answer_in_time_is_lost(
    server: Wire, call: Caller, options: dict[str, Any]
) -> None:
    retries = (
        QUICK
        if options
        else Retries(
            attempt_timeout=timedelta(milliseconds=250), first_pause=QUICK.first_pause
        )
    )
    server.will(never_answer, ended(201))

    assert call(server.address, retries, **{"timeout": None} | options).status == 201
    assert len(set(server.keys)) == 1
    assert len(server.keys) > 1


@cases(
    "act", {"never": never_answer, "in flight": problem(409, "in-flight", "same-key")}
)
@all_callers
def test_nothing_is_sent_after_the_deadline(
    server: Wire, call: Caller, act: Act
) -> None:
    retries = Retries(
        deadline=timedelta(milliseconds=300),
        first_pause=timedelta(milliseconds=20),
        longest_pause=timedelta(milliseconds=20),
    )
    server.will(act)
    if act is never_answer:
        with pytest.raises(Lost):
            call(server.address, retries, timeout=30)
        assert len(server.requests) == 1
    else:
        with suppress(Lost):  # the deadline may come in the last attempt
            assert call(server.address, retries).status == 409
        assert len(server.requests) > 1
    assert len(set(server.keys)) == 1


@all_callers
def test_pause_is_at_least_what_the_server_says(server: Wire, call: Caller) -> None:
    server.will(answer(503, Retry_After="1"), ended(201))
    call(server.address)

    first, second = server.began
    assert second - first >= 1


@cases("digits", {"ten": "1000000000", "more than any number": "9" * 5000})
@all_callers
def test_pause_that_ends_after_the_deadline_is_not_made(
    server: Wire, call: Caller, digits: str
) -> None:
    server.will(answer(503, Retry_After=digits), ended(201))

    assert call(server.address).status == 503
    assert len(server.requests) == 1


@all_callers
def test_redirect_of_the_same_method_has_the_same_key(
    server: Wire, call: Caller
) -> None:
    def elsewhere(exchange: Exchange) -> None:
        act = lose if len(server.requests) == 1 else answer(307, Location="/moved/")
        act(exchange)

    server.will(elsewhere, elsewhere, lose, ended(201))
    follow = {} if call is CALLERS["requests"] else {"follow_redirects": True}

    assert call(server.address, **follow).status == 201
    assert [each.path for each in server.requests] == ["/", "/", "/moved/", "/moved/"]
    assert len(set(server.keys)) == 1


@all_callers
def test_compressed_problem_is_read_and_answers_arrive_as_they_were(
    server: Wire, call: Caller
) -> None:
    zipped = gzip.compress(json.dumps({"code": "x", "retry": "no"}).encode())
    named = {"Content_Type": "application/problem+json", "Content_Encoding": "gzip"}
    server.will(answer(503, zipped, **named))
    said = call(server.address)

    assert (said.status, said.json) == (503, {"code": "x", "retry": "no"})
    assert len(server.requests) == 1


@all_callers
def test_problem_that_cannot_be_read_says_nothing(server: Wire, call: Caller) -> None:
    named = {"Content_Type": "application/problem+json", "Content_Encoding": "gzip"}
    server.will(answer(404, b"no gzip", **named))
    with pytest.raises(
        (httpx.DecodingError, requests.exceptions.ContentDecodingError)
    ) as raised:
        call(server.address)

    error: Any = raised.value
    assert server.keys == [error.request.headers["Idempotency-Key"]]
    # Its status can be read all the same.
    server.will(answer(503, b"no gzip", **named), ended(201))
    assert call(server.address).status == 201


class Parts:
    """Bytes that come in parts, and a second time if anybody asks."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"{}"


@cases(
    "body",
    {
        "generator": lambda: (part for part in [b"{}"]),
        "file": lambda: io.BytesIO(b"{}"),
        "parts": Parts,
    },
)
@cases("call", {name: CALLERS[name] for name in ("httpx", "requests")})
def test_body_that_can_be_read_only_once_is_refused_before_anything_is_sent(
    server: Wire, call: Caller, body: Any
) -> None:
    server.will(ended(201))
    with pytest.raises(TypeError, match="Give it as bytes, text, json= or files="):
        call(server.address, content=body(), json=None)

    assert server.requests == []
    # Where nothing would be sent again, it is none of our business.
    server.will(answer(200))
    call(server.address, content=body(), json=None, method="GET")


def test_async_stream_is_refused(server: Wire) -> None:
    async def parts() -> Any:
        yield b"{}"

    server.will(ended(201))
    with pytest.raises(TypeError, match="can be read only once"):
        CALLERS["httpx-async"](server.address, content=parts(), json=None)

    assert server.requests == []


@all_callers
def test_form_with_a_file_is_sent_again_whole(server: Wire, call: Caller) -> None:
    server.will(lose, lose_half, ended(201))
    files = {"file": ("a.txt", io.BytesIO(b"much content"))}
    call(server.address, files=files, json=None)

    bodies = {each.body for each in server.requests}
    assert len(bodies) == 1
    assert b"much content" in bodies.pop()


def test_streamed_answer_can_be_read_in_parts(server: Wire) -> None:
    server.will(lose, answer(201, b"[1, 2]", Idempotency_Ended="true"))
    with (
        httpx.Client(transport=IdempotentTransport(retries=QUICK)) as client,
        client.stream("POST", server.address) as response,
    ):
        assert b"".join(response.iter_raw()) == b"[1, 2]"


def test_trio_does_as_well(server: Wire) -> None:
    server.will(lose, ended(201))

    async def call() -> int:
        transport = AsyncIdempotentTransport(httpx.AsyncHTTPTransport(), retries=QUICK)
        async with httpx.AsyncClient(transport=transport) as client:
            return (await client.post(server.address)).status_code

    assert trio.run(call) == 201


def test_transport_around_another_is_closed_with_its_client(server: Wire) -> None:
    server.will(ended(201))
    closed = []

    class Noting(httpx.HTTPTransport):
        def close(self) -> None:
            closed.append("sync")
            super().close()

    class AsyncNoting(httpx.AsyncHTTPTransport):
        async def aclose(self) -> None:
            closed.append("async")
            await super().aclose()

    async def call() -> None:
        client = httpx.AsyncClient(transport=AsyncIdempotentTransport(AsyncNoting()))
        await client.post(server.address)
        await client.aclose()

    client = httpx.Client(transport=IdempotentTransport(Noting()))
    client.post(server.address)
    client.close()
    asyncio.run(call())

    assert closed == ["sync", "async"]


def test_adapter_takes_the_timeouts_of_requests(server: Wire) -> None:
    for timeout in (0.25, (5, 0.25), Timeout(read=0.25)):
        server.will(never_answer, ended(201))
        assert CALLERS["requests"](server.address, timeout=timeout).status == 201
        assert len(server.requests) > 1


@cases(
    "timeout",
    {
        "per part": Timeout(connect=60, read=60),
        "in total": Timeout(total=60),
        "none": Timeout(None),
    },
)
def test_timeouts_of_urllib3_do_not_reach_past_the_deadline(
    server: Wire, timeout: Timeout
) -> None:
    soon = Retries(deadline=timedelta(milliseconds=500))
    server.will(never_answer)
    with pytest.raises(Lost) as lost:
        CALLERS["requests"](server.address, soon, timeout=timeout)

    # Not the server, which gives up after half a minute.
    assert isinstance(lost.value.__cause__, requests.ReadTimeout)


def test_adapter_survives_pickling_and_keeps_a_key_in_bytes(server: Wire) -> None:
    adapter = pickle.loads(pickle.dumps(IdempotentAdapter(retries=THREE)))  # noqa: S301
    server.will(lose)
    with requests.Session() as session:
        session.mount("http://", adapter)
        with pytest.raises(requests.ConnectionError):
            session.post(server.address, headers={"Idempotency-Key": b"K"})

    assert server.keys == ["K"] * 3


def test_second_set_of_rules_is_refused() -> None:
    with pytest.raises(TypeError, match="Leave max_retries out"):
        IdempotentAdapter(max_retries=3)


def test_header_may_have_another_name(server: Wire) -> None:
    server.will(ended(201))
    transport = IdempotentTransport(header="X-Key")
    with httpx.Client(transport=transport) as client:
        client.post(server.address)
    with requests.Session() as session:
        session.mount("http://", IdempotentAdapter(header="X-Key"))
        session.post(server.address)

    assert [bool(each.headers["X-Key"]) for each in server.requests] == [True] * 2
    assert server.keys == [None] * 2


# A possible duplicate, and how the caller says that another one is meant

FIRST = {"reference": "A7C1-11BF", "age_seconds": 12, "about": "order 117"}


def refused(first: Any, code: str = "possible-duplicate") -> Act:
    body = json.dumps({"code": code, "retry": "no", "first": first}).encode()
    return answer(409, body, Content_Type="application/problem+json")


def post_with_httpx(url: str, **more: Any) -> httpx.Response:
    with httpx.Client(transport=IdempotentTransport(retries=QUICK)) as client:
        return client.post(url, json={"amount": 1}, **more)


def post_with_async_httpx(url: str, **more: Any) -> httpx.Response:
    async def post() -> httpx.Response:
        transport = AsyncIdempotentTransport(retries=QUICK)
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.post(url, json={"amount": 1}, **more)

    return asyncio.run(post())


def post_with_requests(url: str, **more: Any) -> requests.Response:
    with requests.Session() as session:
        session.mount("http://", IdempotentAdapter(retries=QUICK))
        return session.post(url, json={"amount": 1}, **more)


@cases(
    "post",
    {
        "httpx": post_with_httpx,
        "httpx-async": post_with_async_httpx,
        "requests": post_with_requests,
    },
)
def test_caller_that_means_it_confirms_under_the_key_that_was_refused(
    server: Wire, post: Any
) -> None:
    server.will(refused(FIRST), lose, ended(201))
    duplicate = possible_duplicate(post(server.address))
    assert duplicate is not None
    assert len(server.requests) == 1  # nobody else may say that it is meant

    assert (duplicate.reference, duplicate.age, duplicate.about) == (
        "A7C1-11BF",
        timedelta(seconds=12),
        "order 117",
    )
    done = post(server.address, headers=duplicate.confirmation)
    assert done.status_code == 201
    assert possible_duplicate(done) is None
    told = [each.headers.get("Idempotency-Confirm") for each in server.requests]
    assert told == [None, "A7C1-11BF", "A7C1-11BF"]
    assert len(set(server.keys)) == 1
    assert len({each.body for each in server.requests}) == 1


@cases(
    "act",
    {
        "other code": refused(FIRST, "in-flight"),
        "no first": refused(None),
        "first of another kind": refused(["A7C1-11BF"]),
        "no reference": refused({"age_seconds": 12}),
        "empty": refused(FIRST | {"reference": ""}),
        "two lines": refused(FIRST | {"reference": "A\nB: C"}),
        "not a number": refused(FIRST | {"age_seconds": float("inf")}),
        "a flag": refused(FIRST | {"age_seconds": True}),
        "a time before": refused(FIRST | {"age_seconds": -1}),
        "ages": refused(FIRST | {"age_seconds": 10**30}),
        "other form": answer(409, json.dumps({"first": FIRST}).encode()),
        "done": ended(201),
    },
)
def test_nothing_else_can_be_confirmed(server: Wire, act: Act) -> None:
    server.will(act, ended(201))

    assert possible_duplicate(post_with_httpx(server.address)) is None


def test_confirmation_of_a_request_needs_its_key(server: Wire) -> None:
    server.will(refused({"reference": "A7C1-11BF", "age_seconds": 0}))
    with httpx.Client(transport=IdempotentTransport(header="X-Key")) as client:
        response = client.post(server.address)

    with pytest.raises(ValueError, match="header='X-Key'"):
        possible_duplicate(response)
    duplicate = possible_duplicate(response, header="X-Key")
    assert duplicate is not None
    assert duplicate.about is None
    assert duplicate.confirmation == {
        "X-Key": response.request.headers["X-Key"],
        "Idempotency-Confirm": "A7C1-11BF",
    }


def test_request_that_is_wrong_is_not_tried_again() -> None:
    with pytest.raises(Lost) as lost:
        with_httpx("ftp://localhost/")

    assert isinstance(lost.value.__cause__, httpx.UnsupportedProtocol)


def test_code_of_the_page_does_what_it_says(server: Wire) -> None:
    address = "https://api.example.com"
    with (
        IdempotentTransport(retries=QUICK) as transport,
        httpx.Client(transport=transport) as client,
    ):
        names: dict[str, Any] = {
            "settings": SimpleNamespace(SHOP_API_SECRET=SECRET),
            "order": SimpleNamespace(pk=7),
            "client": client,
            "httpx": httpx,
            "IdempotentTransport": IdempotentTransport,
        }
        asked: list[str] = []

        def says_yes(text: str) -> bool:
            asked.append(text)
            return True

        names["customer_says_yes"] = says_yes
        keys: list[str | None] = []
        for code in blocks("howto/call-a-protected-api"):
            server.will(answer(429), ended(201))
            if "except" in code:
                server.will(lose)
                names["client"] = client
            if "possible_duplicate" in code:
                server.will(refused(FIRST), ended(201))
            run(code.replace(address, server.address), names)
            keys += sorted({key for key in server.keys if key})
            expected = 0 if ".post(" not in code else 6 if "except" in code else 2
            assert len(server.requests) == expected, code
            for opened in ("session", "transport", "client"):
                if f"{opened} = " in code:
                    names[opened].close()
            names["client"] = client

    random, of_requests, derived, confirmed, last = keys
    assert derived == operation_key("pay order 7", secret=SECRET)
    assert names["key"] == last
    assert len({random, of_requests, derived, confirmed, last}) == 5
    assert asked == ["You paid 12 seconds ago. Pay again?"]
