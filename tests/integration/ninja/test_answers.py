"""What an operation answers is stored as ninja makes it, and committed with its work."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import wraps
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.template import RequestContext, Template
from django.template.response import TemplateResponse
from ninja import Form, NinjaAPI, Router
from ninja.errors import HttpError

from django_idempotency.contrib.ninja import idempotent
from django_idempotency.exceptions import CallRefused
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from tests.support.cases import cases
from tests.support.ordering import (
    FORM,
    forgiving_client,
    is_replay,
    orders,
    send,
    signed_in_client,
    word,
)
from tests.support.records import states
from tests.testapp.models import Order

from .exchange import (
    Placed,
    Wish,
    api_of,
    deprecated_tuples,
    new_api,
    place,
    serving,
    twice,
)

pytestmark = [pytest.mark.usefixtures("db"), deprecated_tuples]

EITHER_SHAPE = cases("lease", {"atomic": None, "leased": timedelta(minutes=1)})


def order(amount: int = 0) -> dict[str, int]:
    placed = Order.objects.create(amount=amount)
    return {"order": placed.pk, "amount": placed.amount}


def result(request: HttpRequest) -> Any:
    return {**order(), "left out": "by the schema"}


def instance(request: HttpRequest) -> Any:
    return Placed(**order())


def created(request: HttpRequest) -> Any:
    return 201, order()


def empty(request: HttpRequest) -> Any:
    order()
    return 204, None


def with_header(request: HttpRequest, response: HttpResponse) -> Any:
    response.headers["X-Till"] = "4"
    return order()


def own(request: HttpRequest) -> Any:
    return JsonResponse(order(), status=202)


def template(request: HttpRequest) -> Any:
    order()
    return TemplateResponse(request, "django_idempotency/problem.html")


def refusal(request: HttpRequest) -> Any:
    return 402, order()


def routed(request: HttpRequest, number: int) -> Any:
    return order(number)


def form(request: HttpRequest, amount: Form[int] = 0) -> Any:
    return order(amount)


ANSWERS = {200: Placed, 201: Placed, 204: None, 402: Placed}
OPERATIONS: dict[str, tuple[Callable[..., Any], str, int]] = {
    "result": (result, "/", 200),
    "instance": (instance, "/", 200),
    "created": (created, "/", 201),
    "empty": (empty, "/", 204),
    "with-header": (with_header, "/", 200),
    "own": (own, "/", 202),
    "template": (template, "/", 200),
    "refusal": (refusal, "/", 402),
    "routed": (routed, "/{int:number}/", 200),
}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_copy_gets_the_answer_that_ninja_has_made(name: str, method: str) -> None:
    operation, place_in_api, status = OPERATIONS[name]
    api, router = new_api(), Router()
    router.api_operation([method], place_in_api, response=ANSWERS)(
        idempotent(operation)
    )
    api.add_router("", router)
    at = place_in_api.replace("{int:number}", "7")

    with serving(api):
        first, copy = twice(signed_in_client(), at, method=method)

    assert (first.status_code, copy.status_code) == (status, status)
    assert (copy.content, orders()) == (first.content, 1)
    assert [is_replay(first), is_replay(copy)] == [False, True]
    names = ("Content-Type", "X-Till")
    assert [copy.get(name) for name in names] == [first.get(name) for name in names]
    assert b"left out" not in first.content


def test_form_is_compared_and_left_for_ninja() -> None:
    with serving(api_of(idempotent(form), response=Placed)):
        client = signed_in_client()
        first, copy = twice(client, "/", "amount=3", FORM)
        other = send(client, "/", "amount=4", FORM)

    assert (copy.json(), word(other)) == (first.json(), "422 key-reused")
    assert first.json()["amount"] == 3


def numbers() -> Iterator[bytes]:
    yield b"1"
    yield b"2"


@cases(
    "made",
    {
        "stream": lambda: StreamingHttpResponse(numbers(), status=201),
        "file": lambda: FileResponse(numbers(), status=201),
    },
)
def test_stream_reaches_the_first_client_whole_and_is_done_once(
    made: Callable[[], HttpResponse],
) -> None:
    def operation(request: HttpRequest) -> Any:
        order()
        return made()

    with serving(api_of(idempotent(operation))):
        first, copy = twice(signed_in_client())

    assert b"".join(first) == b"12"
    assert (copy.status_code, copy.content, orders()) == (201, b"", 1)
    assert copy.headers["Idempotency-Replay"] == "omitted"


def test_stream_in_ninjas_own_format_comes_after_the_work() -> None:
    streaming = pytest.importorskip("ninja.streaming")

    def operation(request: HttpRequest) -> Any:
        first = order(1)
        return iter([first, first])

    with serving(api_of(idempotent(operation), response=streaming.JSONL[Placed])):
        first, copy = twice(signed_in_client())
        lines = [json.loads(line) for line in b"".join(first).splitlines()]

    assert lines == 2 * [{"order": Order.objects.get().pk, "amount": 1}]
    assert (is_replay(copy), orders()) == (True, 1)


@EITHER_SHAPE
def test_answer_that_fails_validation_is_not_kept(lease: timedelta | None) -> None:
    """The work is rolled back, unless it ran outside of any transaction."""

    def operation(request: HttpRequest) -> Any:
        return {"order": order()["order"]}

    with serving(api_of(idempotent(lease=lease)(operation), response=Placed)):
        first, again = twice(forgiving_client())

    assert [word(first), word(again)] == ["500", "500"]
    assert orders() == (0 if lease is None else 2)
    assert states() == ["released"]
    assert IdempotencyRecord.objects.get().last_error.endswith(".ValidationError")


class OutOfPaper(Exception):
    """What the project has a handler for."""


class OutOfInk(OutOfPaper):
    """What its handler raises again."""


RAISED: dict[str, Exception] = {
    "refused": HttpError(402, "No money."),
    "missing": Http404(),
    "unavailable": HttpError(503, "Later."),
    "handled": OutOfPaper(),
    "passed on": OutOfInk(),
    "crash": RuntimeError("boom"),
}


def failing(decorate: Any) -> tuple[NinjaAPI, list[Exception]]:
    """An API whose handlers note what they have handled."""

    def fail(request: HttpRequest, wish: Wish) -> Any:
        order()
        raise RAISED[wish.ends]

    api, handled = api_of(decorate(fail)), []

    @api.exception_handler(OutOfPaper)
    def answer(request: HttpRequest, error: Exception) -> HttpResponse:
        handled.append(error)
        if isinstance(error, OutOfInk):
            raise error
        return api.create_response(request, {"out of": "paper"}, status=409)

    return api, handled


ERRORS = {
    "refused": (402, []),
    "missing": (404, []),
    "handled": (409, []),
    "unavailable": (503, ["released"]),
    "passed on": (500, ["released"]),
    "crash": (500, ["released"]),
}


@pytest.mark.parametrize("how", ERRORS)
def test_what_is_raised_is_rolled_back_and_answered_as_without_us(how: str) -> None:
    body = json.dumps({"ends": how})
    (without, _), (api, handled) = failing(lambda view: view), failing(idempotent)
    with serving(without):
        expected = send(forgiving_client(), "/", body)
    done = orders()
    with serving(api):
        first, again = twice(forgiving_client(), "/", body)

    status, left = ERRORS[how]
    assert [word(first), word(again)] == 2 * [str(status)]
    assert first.content == expected.content
    assert (orders() - done, states()) == (0, left)
    assert len(handled) == (2 if how in ("handled", "passed on") else 0)


def test_success_of_a_second_try_by_a_decorator_above_is_committed() -> None:
    """What the first try raised belongs to the first try."""
    tries = []

    def fail_once(request: HttpRequest) -> Any:
        tries.append(request)
        placed = order()
        if len(tries) == 1:
            raise OutOfInk
        return placed

    def again(view: Any) -> Any:
        @wraps(view)
        def call(request: HttpRequest, **values: Any) -> Any:
            try:
                return view(request, **values)
            except OutOfInk:
                return view(request, **values)

        return call

    with serving(api_of(again(idempotent(fail_once)), response=Placed)):
        first, copy = twice(signed_in_client())

    assert [word(first), word(copy)] == ["200", "200 replayed"]
    assert (orders(), len(tries)) == (1, 2)


@EITHER_SHAPE
def test_error_is_kept_where_the_policy_says_so(lease: timedelta | None) -> None:
    api, _ = failing(idempotent(keep_errors=True, lease=lease))
    with serving(api):
        client = forgiving_client()
        kept = twice(client, "/", json.dumps({"ends": "refused"}))
        released = twice(client, "/", json.dumps({"ends": "unavailable"}), key="L")

    assert [word(each) for each in kept] == ["402", "402 replayed"]
    assert [word(each) for each in released] == ["503", "503"]
    assert orders() == (0 if lease is None else 3)


def test_refused_call_is_ours_to_answer_whatever_the_handlers_do() -> None:
    def operation(request: IdempotentRequest) -> Any:
        raise CallRefused("charge", "Declined", "No money.")

    api = api_of(idempotent(operation))
    api.add_exception_handler(
        Exception, lambda request, error: HttpResponse(status=418)
    )
    with serving(api):
        first, again = twice(signed_in_client())

    assert [word(first), word(again)] == 2 * ["402 call-refused"]


@EITHER_SHAPE
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_page_with_a_key_is_kept_from_caches(
    method: str, lease: timedelta | None
) -> None:
    def page(request: HttpRequest) -> HttpResponse:
        tag = Template("{% load idempotency %}{% idempotency_key %}")
        return HttpResponse(tag.render(RequestContext(request)))

    async def async_page(request: HttpRequest) -> HttpResponse:
        return await sync_to_async(page)(request)

    api = new_api()
    protected = idempotent(lease=lease)(async_page if lease else page)
    api.api_operation(["GET", "POST"], "/")(protected)
    with serving(api):
        answer = send(signed_in_client(), "/", method=method)

    assert answer.headers["Cache-Control"] == "private, no-store"


def test_operation_finds_its_key_and_runs_without_one() -> None:
    keys = []

    def operation(request: IdempotentRequest, wish: Wish) -> Any:
        keys.append(request.idempotency.key)
        return place(request, wish)

    api = api_of(idempotent(required=False)(operation))
    api.get("/", response=ANSWERS)(idempotent(required=False)(operation))
    with serving(api):
        client = signed_in_client()
        keyed, unkeyed = (send(client, "/", key=key) for key in ("K", None))
        got = client.get("/", {"amount": 5})

    assert [each.status_code for each in (keyed, unkeyed)] == [201, 201]
    assert keys[:2] == ["K", None]
    assert got.status_code in (201, 422)
