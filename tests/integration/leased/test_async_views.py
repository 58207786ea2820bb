"""Async views, which can be protected in the leased shape only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection, transaction
from django.db.backends.signals import connection_created
from django.db.models.functions import Now
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from django_idempotency import signals
from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import LeaseLost
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from tests.concurrency.answers import Answer, new_key
from tests.concurrency.storm import until as until_true
from tests.integration.leased.scene import (
    LEASE,
    change,
    let_the_lease_end,
    order,
    record,
    remembered,
    states,
)
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("db")]

TIMEOUT = 10.0

AsyncDeed = Callable[[Any], Awaitable[tuple[int, Any]]]


async def place(request: Any) -> tuple[int, Any]:
    """Charge and order, each in a step, with a pause before and between."""
    await asyncio.sleep(0)
    charge = await request.idempotency.acall("charge", bank.charge)
    await asyncio.sleep(0)
    number = await request.idempotency.awrite("order", order)
    return 201, {"charge": charge, "order": number}


class Bank:
    """The other side, which honours keys."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.asked: list[str] = []
        self.during: Callable[[], Awaitable[Any]] = lambda: asyncio.sleep(0)

    async def charge(self, key: str) -> str:
        self.asked.append(key)
        await self.during()
        return "ch_" + key


bank = Bank()


class Stage:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.deed: AsyncDeed = place
        self.runs = 0

    async def enact(self, request: HttpRequest) -> HttpResponse:
        self.runs += 1
        status, data = await self.deed(request)
        return JsonResponse(data, status=status)


stage = Stage()

leased = idempotent(lease=LEASE, wait=timedelta(0))


@leased
async def plain(request: IdempotentRequest) -> HttpResponse:
    return await stage.enact(request)


@idempotent(lease=LEASE, wait=timedelta(seconds=5))
async def patient(request: IdempotentRequest) -> HttpResponse:
    return await stage.enact(request)


@idempotent(lease=LEASE, required=False)
async def optional(request: IdempotentRequest) -> HttpResponse:
    return await stage.enact(request)


class Unprotected(View):
    async def post(self, request: HttpRequest) -> HttpResponse:
        return await stage.enact(request)

    async def get(self, request: HttpRequest) -> HttpResponse:
        return await stage.enact(request)


@method_decorator(leased, name="post")
class Method(Unprotected):
    pass


@method_decorator(leased, name="dispatch")
class Dispatch(Unprotected):
    pass


@method_decorator(idempotent, name="dispatch")
class AtomicDispatch(Unprotected):
    pass


@method_decorator(idempotent, name="post")
class AtomicMethod(Unprotected):
    pass


@leased
def sync_view(request: IdempotentRequest) -> HttpResponse:
    number = request.idempotency.write("order", order)
    return JsonResponse({"order": number}, status=201)


@idempotent(lease=LEASE, keep_errors=True)
async def keeps_errors(request: IdempotentRequest) -> HttpResponse:
    raise AssertionError


urlpatterns = [
    path("plain/", csrf_exempt(plain)),
    path("patient/", csrf_exempt(patient)),
    path("optional/", optional),
    path("method/", Method.as_view()),
    path("dispatch/", Dispatch.as_view()),
    path("as-view/", leased(Unprotected.as_view())),
    path("atomic-dispatch/", AtomicDispatch.as_view()),
    path("atomic-method/", AtomicMethod.as_view()),
    path("sync/", sync_view),
    path("keeps-errors/", keeps_errors),
    path("above/", transaction.non_atomic_requests(plain)),
    path("below/", leased(transaction.non_atomic_requests(Unprotected.as_view()))),
]

everywhere = pytest.mark.parametrize(
    "place_of_view", ["plain", "method", "dispatch", "as-view"]
)


@pytest.fixture(autouse=True)
def _fresh_stage() -> None:
    stage.reset()
    bank.reset()


async def apost(
    path: str, key: str | None = None, *, amount: int = 1, method: str = "post"
) -> Answer:
    client = AsyncClient(raise_request_exception=False)
    response = await getattr(client, method)(
        f"/{path}/",
        {"amount": amount},
        content_type="application/json",
        headers={} if key is None else {"Idempotency-Key": key},
    )
    return Answer(
        status=response.status_code,
        headers=dict(response.headers),
        body=response.content,
    )


def send(path: str, key: str | None = None, **options: Any) -> Answer:
    answer: Answer = async_to_sync(apost)(path, key, **options)
    return answer


def words(path: str, key: str, count: int = 2) -> list[str]:
    return [send(path, key).word for _ in range(count)]


# First calls and repeats


@everywhere
def test_first_call_runs_and_repeats_are_replayed(place_of_view: str) -> None:
    assert words(place_of_view, new_key(), 3) == ["201", "201 replayed", "201 replayed"]
    assert (stage.runs, len(bank.asked), Order.objects.count()) == (1, 1, 1)
    assert states() == ["kept"]


def test_replay_has_the_bytes_of_the_first_answer() -> None:
    key = new_key()

    assert send("plain", key).body == send("plain", key).body


@everywhere
def test_key_that_is_missing_is_asked_for(place_of_view: str) -> None:
    assert send(place_of_view).word == "400 key-missing"
    assert stage.runs == 0


def test_request_without_a_key_runs_each_time() -> None:
    assert [send("optional").word for _ in range(2)] == ["201", "201"]
    assert (len(set(bank.asked)), Order.objects.count()) == (2, 2)
    assert not IdempotencyRecord.objects.exists()


def test_key_that_cannot_be_used_is_refused() -> None:
    assert send("plain", "short").word == "400 key-invalid"


def test_other_payload_under_a_kept_key_is_refused() -> None:
    key = new_key()
    send("plain", key)

    assert send("plain", key, amount=2).word == "422 key-reused"


@pytest.mark.parametrize("place_of_view", ["dispatch", "as-view"])
def test_safe_method_runs_as_without_us(place_of_view: str) -> None:
    answers = [
        async_to_sync(AsyncClient().get)(f"/{place_of_view}/").status_code
        for _ in range(2)
    ]

    assert answers == [201, 201]
    assert not IdempotencyRecord.objects.exists()


def test_sync_view_is_served_by_asgi_as_well() -> None:
    assert words("sync", new_key()) == ["201", "201 replayed"]


@everywhere
def test_failure_releases_the_key_at_once(place_of_view: str) -> None:
    key = new_key()

    async def fail(request: Any) -> tuple[int, Any]:
        await place(request)
        raise ZeroDivisionError

    stage.deed = fail
    assert send(place_of_view, key).status == 500
    assert (record().state, record().lease_token) == ("released", None)
    assert record().last_error == "builtins.ZeroDivisionError"

    stage.deed = place
    assert words(place_of_view, key) == ["201", "201 replayed"]
    assert (len(bank.asked), Order.objects.count()) == (1, 1)


def test_answer_of_500_releases_the_key_at_once() -> None:
    async def refuse(request: Any) -> tuple[int, Any]:
        return 500, {}

    stage.deed = refuse

    assert words("plain", new_key()) == ["500", "500"]


def test_raised_refusal_leaves_no_record() -> None:
    async def not_found(request: Any) -> tuple[int, Any]:
        raise Http404

    stage.deed = not_found

    assert words("plain", new_key()) == ["404", "404"]
    assert not IdempotencyRecord.objects.exists()


def test_view_runs_outside_of_any_transaction() -> None:
    async def deed(request: Any) -> tuple[int, Any]:
        return 200, {"atomic": await sync_to_async(is_in_a_transaction)()}

    stage.deed = deed

    assert send("plain", new_key()).json == {"atomic": False}
    assert send("optional").json == {"atomic": False}


def is_in_a_transaction() -> bool:
    return connection.in_atomic_block


# Copies in flight


def test_copy_in_flight_is_sent_away() -> None:
    key = new_key()
    copies = []

    async def copied() -> None:
        copies.append(await apost("plain", key))

    bank.during = copied

    assert send("plain", key).word == "201"
    assert [copy.word for copy in copies] == ["409 in-flight"]
    assert 55 <= int(copies[0].headers["Retry-After"]) <= 60


def test_copies_in_flight_wait_by_looking_again_and_are_replayed() -> None:
    """FR-013: nobody's connection is held meanwhile, and the loop goes on."""
    key = new_key()
    looks = Statements()

    async def all_at_once() -> list[str]:
        first = asyncio.ensure_future(apost("patient", key))
        await until(lambda: len(bank.asked) == 1)
        copies = [asyncio.ensure_future(apost("patient", key)) for _ in range(5)]
        seen = len(looks.seen)
        await until(lambda: len(looks.seen) > seen + 15)
        ended.set()
        return [answer.word for answer in await asyncio.gather(first, *copies)]

    ended = asyncio.Event()
    bank.during = ended.wait
    with connection.execute_wrapper(looks):
        answers = async_to_sync(all_at_once)()

    assert answers == ["201"] + ["201 replayed"] * 5
    assert (len(bank.asked), Order.objects.count()) == (1, 1)


def test_copy_takes_over_when_the_lease_ends() -> None:
    key = new_key()

    async def both() -> list[str]:
        first = asyncio.ensure_future(apost("patient", key))
        await until(lambda: len(bank.asked) == 1)
        copy = asyncio.ensure_future(apost("patient", key))
        bank.during = lambda: asyncio.sleep(0)
        await sync_to_async(let_the_lease_end)()
        answer = await copy
        ended.set()
        return [(await first).word, answer.word]

    ended = asyncio.Event()
    bank.during = ended.wait

    assert async_to_sync(both)() == ["409 in-flight", "201"]
    assert (len(set(bank.asked)), Order.objects.count()) == (1, 1)


class Statements:
    """Notes what is executed."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, execute: Any, sql: str, *args: Any) -> Any:
        self.seen.append(sql)
        return execute(sql, *args)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not condition():
            await asyncio.sleep(0.005)


# Steps


def test_steps_are_not_repeated_when_the_lease_has_ended() -> None:
    key = new_key()
    send("plain", key)
    change(state="in_flight", lease_expires_at=Now() - timedelta(seconds=1))

    assert send("plain", key).word == "201"
    assert (len(bank.asked), Order.objects.count()) == (1, 1)


def test_call_that_raises_is_repeated_with_the_same_key() -> None:
    key = new_key()

    async def lost() -> None:
        raise TimeoutError

    bank.during = lost
    assert send("plain", key).status == 500
    assert remembered() == [("charge", False)]

    bank.during = lambda: asyncio.sleep(0)
    assert send("plain", key).word == "201"
    assert (len(bank.asked), len(set(bank.asked))) == (2, 1)


def test_call_that_holds_and_raises_is_held() -> None:
    key = new_key()

    async def lost(key: str) -> None:
        raise TimeoutError

    async def deed(request: Any) -> tuple[int, Any]:
        await request.idempotency.acall("charge", lost, if_unknown="hold")
        raise AssertionError

    stage.deed = deed

    assert words("plain", key, 3) == ["500"] + ["409 outcome-unknown"] * 2
    assert states() == ["held"]


def test_look_up_is_asked_where_the_connections_are() -> None:
    key = new_key()
    threads = []

    async def lost(key: str) -> None:
        raise TimeoutError

    def find(key: str) -> str:
        threads.append(threading.current_thread())
        return "ch_found"

    async def deed(request: Any) -> tuple[int, Any]:
        charge = await request.idempotency.acall("charge", lost, if_unknown=find)
        return 201, {"charge": charge}

    stage.deed = deed
    send("plain", key)

    assert send("plain", key).json == {"charge": "ch_found"}
    assert threads == [threading.current_thread()]


def test_write_that_fails_is_rolled_back() -> None:
    def half() -> None:
        order()
        raise ZeroDivisionError

    async def deed(request: Any) -> tuple[int, Any]:
        await request.idempotency.awrite("order", half)
        raise AssertionError

    stage.deed = deed

    assert send("plain", new_key()).status == 500
    assert (Order.objects.count(), states()) == (0, ["released"])


def test_late_owner_writes_nothing() -> None:
    """FR-014."""
    key = new_key()
    errors = []

    async def late(request: Any) -> tuple[int, Any]:
        await sync_to_async(let_the_lease_end)()
        stage.deed = place
        assert (await apost("plain", key)).word == "201"
        steps = request.idempotency
        for act in (steps.awrite("o", order), steps.acall("c", bank.charge)):
            with pytest.raises(LeaseLost) as error:
                await act
            errors.append(error)
        await steps.aextend()
        raise AssertionError

    stage.deed = late

    assert send("plain", key).word == "409 in-flight"
    assert (len(errors), len(bank.asked), Order.objects.count()) == (2, 1, 1)
    assert send("plain", key).word == "201 replayed"


def test_lease_can_be_extended() -> None:
    key = new_key()
    copies = []

    async def deed(request: Any) -> tuple[int, Any]:
        await request.idempotency.aextend(timedelta(minutes=5))
        copies.append(await apost("plain", key))
        return 201, {}

    stage.deed = deed
    send("plain", key)

    assert 290 <= int(copies[0].headers["Retry-After"]) <= 300


@pytest.mark.parametrize(
    "signal", [signals.claimed, signals.kept, signals.replayed, signals.mismatched]
)
def test_receiver_of_a_signal_may_ask_the_database(signal: Any) -> None:
    seen = []

    def receive(**kwargs: Any) -> None:
        seen.append(IdempotencyRecord.objects.count())

    key = new_key()
    signal.connect(receive)
    try:
        words("plain", key)
        send("plain", key, amount=2)
    finally:
        signal.disconnect(receive)

    assert seen == [1]


# Where it is refused


def test_async_view_without_a_lease_is_refused_when_it_is_decorated() -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        raise AssertionError

    with pytest.raises(ImproperlyConfigured, match=r"lease=timedelta\(minutes=1\)"):
        idempotent(view)
    with pytest.raises(ImproperlyConfigured, match=r"async def view\(request\)"):
        idempotent(required=False)(view)


def test_async_class_without_a_lease_is_refused_when_it_is_decorated() -> None:
    with pytest.raises(ImproperlyConfigured, match="lease="):
        idempotent(Unprotected.as_view())


@pytest.mark.parametrize("place_of_view", ["atomic-method", "atomic-dispatch"])
def test_async_method_without_a_lease_is_refused_before_it_runs(
    place_of_view: str,
) -> None:
    """`method_decorator` binds anew at each request; only then it shows."""
    client = AsyncClient()
    headers = {"Idempotency-Key": new_key()}

    with pytest.raises(ImproperlyConfigured, match="lease="):
        async_to_sync(client.post)(f"/{place_of_view}/", headers=headers)
    assert (stage.runs, states()) == (0, [])


def test_kept_errors_of_an_async_view_are_refused() -> None:
    client = AsyncClient()
    headers = {"Idempotency-Key": new_key()}

    with pytest.raises(ImproperlyConfigured, match="keep_errors=True"):
        async_to_sync(client.post)("/keeps-errors/", headers=headers)


# ATOMIC_REQUESTS


@pytest.fixture(params=[True, False], ids=["on", "off"])
def atomic_requests_or_not(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", request.param)


@pytest.mark.parametrize("place_of_view", ["plain", "above", "below"])
@pytest.mark.usefixtures("atomic_requests_or_not")
def test_async_view_works_with_and_without_atomic_requests(place_of_view: str) -> None:
    """FR-103: non_atomic_requests is not needed, and does no harm in either order."""
    assert words(place_of_view, new_key()) == ["201", "201 replayed"]
    assert Order.objects.count() == 1


@pytest.mark.parametrize("place_of_view", ["plain", "above", "below"])
@pytest.mark.usefixtures("atomic_requests_or_not")
def test_failing_async_view_works_with_and_without_atomic_requests(
    place_of_view: str,
) -> None:
    """FR-103."""

    async def fail(request: Any) -> tuple[int, Any]:
        raise ZeroDivisionError

    stage.deed = fail
    key = new_key()
    assert send(place_of_view, key).status == 500
    stage.deed = place
    assert send(place_of_view, key).word == "201"


# Cancellation, FR-105


class Cancelling:
    """Cancels a task at one statement, before or after it is executed."""

    def __init__(self, at: int | str, *, after: bool, times: int = 1) -> None:
        self.at = at
        """Its number, or a part of it."""
        self.after = after
        self.times = times
        self.seen: list[str] = []
        self.task: asyncio.Task[Any] | None = None

    def __call__(self, execute: Any, sql: str, *args: Any) -> Any:
        if isinstance(self.at, int):
            is_it = len(self.seen) == self.at
        else:
            is_it = self.at in sql
        self.seen.append(sql)
        if is_it and not self.after:
            self.cancel()
        result = execute(sql, *args)
        if is_it and self.after:
            self.cancel()
        return result

    def cancel(self) -> None:
        for _ in range(self.times):
            self._cancel_once()

    def _cancel_once(self) -> None:
        assert self.task is not None
        loop = self.task.get_loop()
        is_delivered = threading.Event()
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(self.task.cancel)
            # Two rounds of the loop later the task has been woken by it.
            loop.call_soon_threadsafe(loop.call_soon, is_delivered.set)
        until_true(lambda: is_delivered.is_set() or loop.is_closed())


def send_cancelled(path: str, key: str, cancelling: Cancelling) -> str:
    async def sent() -> str:
        cancelling.task = asyncio.ensure_future(apost(path, key))
        try:
            return str((await cancelling.task).word)
        except asyncio.CancelledError:
            return "cancelled"

    with connection.execute_wrapper(cancelling):
        return str(async_to_sync(sent)())


CLAIM, ANSWER = "INSERT INTO django_idempotency", "SET state = 'kept'"
"""What the first and the last statement of a request look like."""


def statements_of_a_request() -> list[str]:
    statements = Statements()
    with connection.execute_wrapper(statements):
        assert send("plain", new_key()).word == "201"
    Order.objects.all().delete()
    IdempotencyRecord.objects.all().delete()
    bank.reset()
    return statements.seen


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_request_cancelled_at_any_statement_can_be_sent_again(after: bool) -> None:
    """FR-105: no key stays in progress, and none executes twice."""
    statements = statements_of_a_request()
    assert len(statements) >= 6
    for at in range(len(statements)):
        key = new_key()
        IdempotencyRecord.objects.all().delete()

        assert send_cancelled("plain", key, Cancelling(at, after=after)) == "cancelled"
        assert not connection.in_atomic_block
        assert states() in (["released"], ["kept"])
        assert words("plain", key)[-1] == "201 replayed"
        assert (Order.objects.count(), len(set(bank.asked))) == (at + 1, at + 1)


def test_request_cancelled_again_and_again_executes_once() -> None:
    """FR-105: then nobody may be left to release the key, and the lease ends by itself."""
    statements = statements_of_a_request()
    for at in range(len(statements)):
        key = new_key()
        IdempotencyRecord.objects.all().delete()
        cancelling = Cancelling(at, after=True, times=3)

        assert send_cancelled("plain", key, cancelling) == "cancelled"
        if states() == ["in_flight"]:
            let_the_lease_end()
        assert words("plain", key)[-1] == "201 replayed"
        assert (Order.objects.count(), len(set(bank.asked))) == (at + 1, at + 1)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_request_cancelled_while_its_answer_is_stored_is_replayed(after: bool) -> None:
    """FR-105: the work was committed."""
    key = new_key()
    send_cancelled("plain", key, Cancelling(ANSWER, after=after))

    assert words("plain", key, 1) == ["201 replayed"]
    assert stage.runs == 1


def test_request_cancelled_while_its_answer_is_stored_is_not_told_to_be_released(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO", logger="django_idempotency"):
        send_cancelled("plain", new_key(), Cancelling(ANSWER, after=True))

    told = [each.getMessage() for each in caplog.records]
    assert told == ["idempotency claimed", "idempotency kept"]


def test_request_cancelled_in_its_claim_runs_nothing() -> None:
    """FR-105."""
    key = new_key()

    assert send_cancelled("plain", key, Cancelling(CLAIM, after=True)) == "cancelled"
    assert (stage.runs, states()) == (0, ["released"])
    assert words("plain", key) == ["201", "201 replayed"]


def cancel_in(pause: Callable[[], Any], path: str = "plain") -> str:
    """Send a request, and cancel it where it has come to `pause`; return its key."""
    key = new_key()

    async def sent() -> None:
        task = asyncio.ensure_future(apost(path, key))
        await until(pause)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async_to_sync(sent)()
    return key


def test_request_cancelled_in_its_view_can_be_sent_again() -> None:
    """FR-105."""

    ordered = []

    async def endless(request: Any) -> tuple[int, Any]:
        ordered.append(await place(request))
        await asyncio.sleep(TIMEOUT)
        raise AssertionError

    stage.deed = endless
    key = cancel_in(lambda: len(ordered) == 1)
    assert (states(), record().last_error) == (
        ["released"],
        "asyncio.exceptions.CancelledError",
    )

    stage.deed = place
    assert words("plain", key) == ["201", "201 replayed"]
    assert (len(bank.asked), Order.objects.count()) == (1, 1)


def test_request_cancelled_in_a_call_repeats_it_with_the_same_key() -> None:
    """FR-105: the call may have arrived."""
    bank.during = lambda: asyncio.sleep(TIMEOUT)
    key = cancel_in(lambda: len(bank.asked) == 1)
    assert (states(), remembered()) == (["released"], [("charge", False)])

    bank.during = lambda: asyncio.sleep(0)
    assert words("plain", key) == ["201", "201 replayed"]
    assert (len(bank.asked), len(set(bank.asked)), Order.objects.count()) == (2, 1, 1)


def test_request_cancelled_in_a_call_that_holds_is_held() -> None:
    """FR-105: nobody makes it again by itself."""

    async def deed(request: Any) -> tuple[int, Any]:
        await request.idempotency.acall("charge", bank.charge, if_unknown="hold")
        raise AssertionError

    stage.deed = deed
    bank.during = lambda: asyncio.sleep(TIMEOUT)
    key = cancel_in(lambda: len(bank.asked) == 1)

    assert words("plain", key) == ["409 outcome-unknown"] * 2
    assert (states(), len(bank.asked)) == (["held"], 1)


def test_cancellation_is_not_lost_when_the_claim_fails() -> None:
    """FR-105: whoever has cancelled must hear of it."""

    class Failing(Cancelling):
        def __call__(self, execute: Any, sql: str, *args: Any) -> Any:
            super().__call__(lambda *args: None, sql, *args)
            raise OperationalError("server closed the connection")

    word = send_cancelled("plain", new_key(), Failing(0, after=False))

    assert (word, states()) == ("cancelled", [])


def test_copy_that_is_cancelled_while_it_waits_leaves_the_first_alone() -> None:
    """FR-105."""
    key = new_key()

    async def both() -> Answer:
        first = asyncio.ensure_future(apost("patient", key))
        await until(lambda: len(bank.asked) == 1)
        seen = len(looks.seen)
        copy = asyncio.ensure_future(apost("patient", key))
        await until(lambda: len(looks.seen) > seen + 5)  # it has looked again
        copy.cancel()
        with suppress(asyncio.CancelledError):
            await copy
        ended.set()
        return await first

    ended, looks = asyncio.Event(), Statements()
    bank.during = ended.wait

    with connection.execute_wrapper(looks):
        assert async_to_sync(both)().word == "201"
    assert send("patient", key).word == "201 replayed"


def test_view_that_swallows_its_cancellation_answers_as_it_likes() -> None:
    key = new_key()

    async def stubborn(request: Any) -> tuple[int, Any]:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(TIMEOUT)
        return 201, {}

    async def sent() -> str:
        task = asyncio.ensure_future(apost("plain", key))
        await until(lambda: stage.runs == 1)
        task.cancel()
        return (await task).word

    stage.deed = stubborn

    assert async_to_sync(sent)() == "201"
    assert send("plain", key).word == "201 replayed"


# A real ASGI application, whose requests have a thread each


class Threads:
    """Which thread made each connection, and which ones used it."""

    def __init__(self) -> None:
        self.users: list[set[int]] = []

    def made(self, connection: Any, **kwargs: Any) -> None:
        users = {threading.get_ident()}
        self.users.append(users)

        def spy(execute: Any, *args: Any) -> Any:
            users.add(threading.get_ident())
            return execute(*args)

        connection.execute_wrappers.append(spy)


@contextmanager
def watched() -> Iterator[Threads]:
    threads = Threads()
    connection_created.connect(threads.made)
    try:
        yield threads
    finally:
        connection_created.disconnect(threads.made)


async def serve(
    path: str, key: str, *, gone: Callable[[], bool] = lambda: False
) -> list[Any]:
    """Be an ASGI server for one request, whose client hangs up when it is `gone`."""
    body = b'{"amount": 1}'
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": f"/{path}/",
        "query_string": b"",
        "headers": [
            (b"host", b"testserver"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"idempotency-key", key.encode()),
        ],
    }
    messages = [{"type": "http.request", "body": body}]
    sent: list[Any] = []

    async def receive() -> Any:
        if messages:
            return messages.pop()
        while not gone():
            await asyncio.sleep(0.005)
        return {"type": "http.disconnect"}

    async def answer(message: Any) -> None:
        sent.append(message)

    async with asyncio.timeout(TIMEOUT):
        await get_asgi_application()(scope, receive, answer)
    return sent


def statuses(messages: list[Any]) -> list[int]:
    return [each["status"] for each in messages if "status" in each]


def test_client_that_hangs_up_may_come_back() -> None:
    """FR-105."""
    key = new_key()
    bank.during = lambda: asyncio.sleep(TIMEOUT)
    with watched() as threads:
        sent = asyncio.run(serve("plain", key, gone=lambda: len(bank.asked) == 1))
        bank.during = lambda: asyncio.sleep(0)
        again = [statuses(asyncio.run(serve("plain", key))) for _ in range(2)]

    assert (sent, again) == ([], [[201], [201]])
    assert (len(bank.asked), len(set(bank.asked)), Order.objects.count()) == (2, 1, 1)
    assert all(len(users) == 1 for users in threads.users)
    assert threading.get_ident() not in set().union(*threads.users)
    until_true(lambda: sessions_of_others() == 0)


def test_requests_in_one_loop_keep_to_their_own_connections() -> None:
    async def several() -> list[list[Any]]:
        keys = [new_key() for _ in range(4)]
        return await asyncio.gather(*(serve("patient", key) for key in keys * 2))

    with watched() as threads:
        answers = asyncio.run(several())

    assert [statuses(messages) for messages in answers] == [[201]] * 8
    assert (Order.objects.count(), len(set(bank.asked))) == (4, 4)
    assert all(len(users) == 1 for users in threads.users)
    until_true(lambda: sessions_of_others() == 0)


def sessions_of_others() -> int:
    """How many sessions are open, besides that of this test."""
    if connection.vendor != "postgresql":
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        count: int = cursor.fetchone()[0]
        return count
