"""What async views have of their own: `await`, cancellation, and a loop.

What they share with all leased views is shown in `test_leased_views`.
"""

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection, transaction
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from django_idempotency import signals
from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import LeaseLost, StepError
from django_idempotency.models import IdempotencyRecord
from tests.integration.leased.scene import (
    LEASE,
    let_the_lease_end,
    order,
    remembered,
    scene,
)
from tests.integration.leased.views import answer as sync_view
from tests.support.client import Answer, new_key
from tests.support.records import record, states
from tests.support.threads import until as until_true
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("db")]

TIMEOUT = 10.0

AsyncDeed = Callable[[Any], Awaitable[tuple[int, Any]]]


async def place(request: Any) -> tuple[int, Any]:
    """Charge and order, each in a step, with a pause before and between."""
    await asyncio.sleep(0)
    charge = await request.idempotency.acall("charge", stage.charge)
    await asyncio.sleep(0)
    number = await request.idempotency.awrite("order", order)
    return 201, {"charge": charge, "order": number}


class Stage:
    """What happens in the views, and the other side that they call: it honours keys."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.deed: AsyncDeed = place
        self.runs = 0
        self.asked: list[str] = []
        """The keys of the calls to the other side."""
        self.during: Callable[[], Awaitable[Any]] = lambda: asyncio.sleep(0)

    async def charge(self, key: str) -> str:
        self.asked.append(key)
        await self.during()
        return "ch_" + key


stage = Stage()

leased = idempotent(lease=LEASE, wait=timedelta(0))
patient: Any = idempotent(lease=LEASE, wait=timedelta(seconds=5))
optional: Any = idempotent(lease=LEASE, required=False)
keeping_errors: Any = idempotent(lease=LEASE, keep_errors=True)


async def enact(request: HttpRequest) -> HttpResponse:
    stage.runs += 1
    status, data = await stage.deed(request)
    return JsonResponse(data, status=status)


class Unprotected(View):
    async def post(self, request: HttpRequest) -> HttpResponse:
        return await enact(request)

    get = post


@method_decorator(idempotent, name="dispatch")
class AtomicDispatch(Unprotected): ...


@method_decorator(idempotent, name="post")
class AtomicMethod(Unprotected): ...


urlpatterns = [
    path("plain/", csrf_exempt(leased(enact))),
    path("patient/", csrf_exempt(patient(enact))),
    path("optional/", optional(enact)),
    path("as-view/", leased(Unprotected.as_view())),
    path("atomic-dispatch/", AtomicDispatch.as_view()),
    path("atomic-method/", AtomicMethod.as_view()),
    path("sync/", leased(sync_view)),
    path("keeps-errors/", keeping_errors(enact)),
    path("above/", transaction.non_atomic_requests(leased(enact))),
    path("below/", leased(transaction.non_atomic_requests(Unprotected.as_view()))),
]


async def fail(request: Any) -> tuple[int, Any]:
    await place(request)
    raise ZeroDivisionError


async def lost(*key: str) -> Any:
    raise TimeoutError


def paying(call: Callable[[str], Awaitable[Any]], **options: Any) -> AsyncDeed:
    async def deed(request: Any) -> tuple[int, Any]:
        charge = await request.idempotency.acall("charge", call, **options)
        return 201, {"charge": charge}

    return deed


@pytest.fixture(autouse=True)
def _fresh_stage() -> None:
    stage.reset()


async def apost(path: str = "plain", *, amount: int = 1, keyed: bool = True) -> Answer:
    response = await AsyncClient(raise_request_exception=False).post(
        f"/{path}/",
        {"amount": amount},
        content_type="application/json",
        headers={"Idempotency-Key": scene.key} if keyed else {},
    )
    return Answer(
        status=response.status_code,
        headers=dict(response.headers),
        body=response.content,
    )


def send(path: str = "plain", **options: Any) -> Answer:
    answer: Answer = async_to_sync(apost)(path, **options)
    return answer


def words(path: str = "plain", count: int = 2) -> list[str]:
    return [send(path).word for _ in range(count)]


# First calls and repeats


def test_first_call_runs_and_repeats_are_replayed() -> None:
    assert words(count=3) == ["201", "201 replayed", "201 replayed"]
    assert (stage.runs, len(stage.asked), Order.objects.count()) == (1, 1, 1)
    assert states() == ["kept"]


def test_request_without_a_key_runs_each_time() -> None:
    assert [send("optional", keyed=False).word for _ in range(2)] == ["201", "201"]
    assert (len(set(stage.asked)), Order.objects.count()) == (2, 2)
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.parametrize("place_of_view", ["atomic-dispatch", "as-view"])
def test_safe_method_runs_as_without_us(place_of_view: str) -> None:
    answers = [async_to_sync(AsyncClient().get)(f"/{place_of_view}/") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert not IdempotencyRecord.objects.exists()


def test_sync_view_is_served_by_asgi_as_well() -> None:
    assert words("sync") == ["201", "201 replayed"]


def test_failure_releases_the_key_and_keeps_the_memory() -> None:
    stage.deed = fail
    assert send().status == 500
    assert (states(), record().last_error) == (
        ["released"],
        "builtins.ZeroDivisionError",
    )

    stage.deed = place
    assert words() == ["201", "201 replayed"]
    assert (len(stage.asked), Order.objects.count()) == (1, 1)


# Copies in flight


def test_copies_in_flight_wait_by_looking_again_and_are_replayed() -> None:
    """FR-013: nobody's connection is held meanwhile, and the loop goes on."""
    looks = Statements()

    async def all_at_once() -> list[str]:
        first = asyncio.ensure_future(apost("patient"))
        await until(lambda: len(stage.asked) == 1)
        copies = [asyncio.ensure_future(apost("patient")) for _ in range(5)]
        seen = len(looks.seen)
        await until(lambda: len(looks.seen) > seen + 15)
        ended.set()
        return [answer.word for answer in await asyncio.gather(first, *copies)]

    ended = asyncio.Event()
    stage.during = ended.wait
    with connection.execute_wrapper(looks):
        answers = async_to_sync(all_at_once)()

    assert answers == ["201"] + ["201 replayed"] * 5
    assert (len(stage.asked), Order.objects.count()) == (1, 1)


def test_copy_takes_over_when_the_lease_ends() -> None:
    async def both() -> list[str]:
        first = asyncio.ensure_future(apost("patient"))
        await until(lambda: len(stage.asked) == 1)
        copy = asyncio.ensure_future(apost("patient"))
        stage.during = lambda: asyncio.sleep(0)
        await sync_to_async(let_the_lease_end)()
        answer = await copy
        ended.set()
        return [(await first).word, answer.word]

    ended = asyncio.Event()
    stage.during = ended.wait

    assert async_to_sync(both)() == ["409 in-flight", "201"]
    assert (len(set(stage.asked)), Order.objects.count()) == (1, 1)


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


def test_call_that_raises_is_repeated_with_the_same_key() -> None:
    stage.during = lost
    assert send().status == 500
    assert remembered() == [("charge", False)]

    stage.during = lambda: asyncio.sleep(0)
    assert send().word == "201"
    assert (len(stage.asked), len(set(stage.asked))) == (2, 1)


def test_call_that_holds_and_raises_is_held() -> None:
    stage.deed = paying(lost, if_unknown="hold")

    assert words(count=3) == ["500"] + ["409 outcome-unknown"] * 2
    assert states() == ["held"]


def test_look_up_is_asked_where_the_connections_are() -> None:
    threads = []

    def find(key: str) -> str:
        threads.append(threading.current_thread())
        return "ch_found"

    stage.deed = paying(lost, if_unknown=find)
    send()

    assert send().json == {"charge": "ch_found"}
    assert threads == [threading.current_thread()]


def test_late_owner_writes_nothing() -> None:
    """FR-014."""
    errors = []

    async def late(request: Any) -> tuple[int, Any]:
        await sync_to_async(let_the_lease_end)()
        stage.deed = place
        assert (await apost()).word == "201"
        steps = request.idempotency
        for act in (steps.awrite("o", order), steps.acall("c", stage.charge)):
            with pytest.raises(LeaseLost) as error:
                await act
            errors.append(error)
        await steps.aextend()
        raise AssertionError

    stage.deed = late

    assert send().word == "409 in-flight"
    assert (len(errors), len(stage.asked), Order.objects.count()) == (2, 1, 1)
    assert send().word == "201 replayed"


def test_lease_can_be_extended() -> None:
    copies = []

    async def deed(request: Any) -> tuple[int, Any]:
        await request.idempotency.aextend(timedelta(minutes=5))
        copies.append(await apost())
        return 201, {}

    stage.deed = deed
    send()

    assert 290 <= int(copies[0].headers["Retry-After"]) <= 300


@pytest.mark.parametrize(
    "signal", [signals.claimed, signals.kept, signals.replayed, signals.mismatched]
)
def test_receiver_of_a_signal_may_ask_the_database(signal: Any) -> None:
    seen = []

    def receive(**kwargs: Any) -> None:
        seen.append(IdempotencyRecord.objects.count())

    signal.connect(receive)
    try:
        words()
        send(amount=2)
    finally:
        signal.disconnect(receive)

    assert seen == [1]


# Several at once


def asking(*steps: str) -> Callable[[Any], list[Awaitable[Any]]]:
    """Begin these steps, and await none of them."""

    def ask(request: Any) -> list[Awaitable[Any]]:
        acts = {
            "call": lambda name: request.idempotency.acall(name, stage.charge),
            "write": lambda name: request.idempotency.awrite(name, order),
        }
        return [acts[kind](f"{kind} {at}") for at, kind in enumerate(steps)]

    return ask


async def in_a_group(steps: list[Awaitable[Any]]) -> None:
    async with asyncio.TaskGroup() as group:
        for step in steps:
            group.create_task(step)  # type: ignore[arg-type]


async def gathered(steps: list[Awaitable[Any]]) -> None:
    await asyncio.gather(*steps)


async def gathered_to_the_end(steps: list[Awaitable[Any]]) -> None:
    results = await asyncio.gather(*steps, return_exceptions=True)
    assert {type(each) for each in results} == {StepError}
    raise results[0]


@pytest.mark.parametrize("how", [gathered, gathered_to_the_end, in_a_group])
@pytest.mark.parametrize("kinds", [*itertools.product(["call", "write"], repeat=2)])
@pytest.mark.parametrize("path", ["plain", "optional"])
def test_steps_at_the_same_time_are_refused_before_one_begins(
    how: Any, kinds: tuple[str, ...], path: str
) -> None:
    """Which came first would differ from one try to the next."""
    refusals = []

    async def at_once(request: Any) -> tuple[int, Any]:
        with pytest.raises((StepError, ExceptionGroup)) as refusal:
            await how(asking(*kinds)(request))
        refusals.append(refusal.value)
        await asyncio.sleep(0.05)
        return 500, {}

    stage.deed = at_once
    answer = send(path, keyed=path == "plain")

    assert (answer.status, len(refusals)) == (500, 1)
    assert (stage.asked, Order.objects.count()) == ([], 0)
    stage.deed = place
    assert send(path).word == "201"


def test_key_is_free_when_a_step_that_nobody_awaits_has_ended() -> None:
    """Else a retry would make its call beside it."""

    async def careless(request: Any) -> tuple[int, Any]:
        abandoned.append(asyncio.ensure_future(asking("call")(request)[0]))
        await until(lambda: len(stage.asked) == 1)
        with pytest.raises(StepError, match="at the same time"):
            await request.idempotency.awrite("order", order)
        return 500, {}

    abandoned: list[Any] = []
    stage.during = lambda: asyncio.sleep(0.1)
    stage.deed = careless

    assert send().status == 500
    assert (states(), remembered()) == (["released"], [("call 0", True)])


# Where it is refused


def test_async_view_without_a_lease_is_refused_when_it_is_decorated() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"lease=timedelta\(minutes=1\)"):
        idempotent(required=False)(enact)


@pytest.mark.parametrize(
    ("place_of_view", "says"),
    [
        ("atomic-method", "lease="),
        ("atomic-dispatch", "lease="),
        ("keeps-errors", "keep_errors=True"),
    ],
)
def test_what_shows_only_with_a_request_is_refused_before_the_view_runs(
    place_of_view: str, says: str
) -> None:
    """`method_decorator` binds anew at each request."""
    client = AsyncClient()
    headers = {"Idempotency-Key": new_key()}

    with pytest.raises(ImproperlyConfigured, match=says):
        async_to_sync(client.post)(f"/{place_of_view}/", headers=headers)
    assert (stage.runs, states()) == (0, [])


# ATOMIC_REQUESTS


@pytest.mark.parametrize("atomic_requests", [True, False], ids=["on", "off"])
@pytest.mark.parametrize("place_of_view", ["plain", "above", "below"])
def test_async_view_works_with_and_without_atomic_requests(
    place_of_view: str, atomic_requests: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FR-103: non_atomic_requests is not needed, and does no harm in either order."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", atomic_requests)

    stage.deed = fail
    assert send(place_of_view).status == 500
    stage.deed = place
    assert words(place_of_view) == ["201", "201 replayed"]
    assert Order.objects.count() == 1


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


def send_cancelled(cancelling: Cancelling) -> str:
    async def sent() -> str:
        cancelling.task = asyncio.ensure_future(apost())
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
        assert send().word == "201"
    Order.objects.all().delete()
    IdempotencyRecord.objects.all().delete()
    stage.reset()
    return statements.seen


@pytest.mark.parametrize(
    ("after", "times"),
    [(False, 1), (True, 1), (True, 3)],
    ids=["before", "after", "again and again"],
)
def test_request_cancelled_at_any_statement_can_be_sent_again(
    after: bool, times: int
) -> None:
    """FR-105: no key stays in progress, and none executes twice."""
    statements = statements_of_a_request()
    assert len(statements) >= 6
    for at in range(len(statements)):
        scene.key = new_key()
        IdempotencyRecord.objects.all().delete()

        cancelling = Cancelling(at, after=after, times=times)
        assert send_cancelled(cancelling) == "cancelled"
        assert not connection.in_atomic_block
        assert states() in (["released"], ["kept"])
        assert words()[-1] == "201 replayed"
        assert (Order.objects.count(), len(set(stage.asked))) == (at + 1, at + 1)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_request_cancelled_while_its_answer_is_stored_is_replayed(
    after: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-105: the work was committed, and nobody is told that the key is released."""
    with caplog.at_level("INFO", logger="django_idempotency"):
        send_cancelled(Cancelling(ANSWER, after=after))
    told = [getattr(each, "action", "") for each in caplog.records]

    assert told == ["claimed", "kept"]
    assert (words(count=1), stage.runs) == (["201 replayed"], 1)


def test_request_cancelled_in_its_claim_runs_nothing() -> None:
    """FR-105."""
    assert send_cancelled(Cancelling(CLAIM, after=True)) == "cancelled"
    assert (stage.runs, states()) == (0, ["released"])
    assert words() == ["201", "201 replayed"]


def cancel_in(pause: Callable[[], Any]) -> None:
    """Send a request, and cancel it where it has come to `pause`."""

    async def sent() -> None:
        task = asyncio.ensure_future(apost())
        await until(pause)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async_to_sync(sent)()


def test_request_cancelled_in_its_view_can_be_sent_again() -> None:
    """FR-105."""
    ordered = []

    async def endless(request: Any) -> tuple[int, Any]:
        ordered.append(await place(request))
        await asyncio.sleep(TIMEOUT)
        raise AssertionError

    stage.deed = endless
    cancel_in(lambda: len(ordered) == 1)
    assert states() == ["released"]
    assert record().last_error == "asyncio.exceptions.CancelledError"

    stage.deed = place
    assert words() == ["201", "201 replayed"]
    assert (len(stage.asked), Order.objects.count()) == (1, 1)


CANCELLED = "asyncio.exceptions.CancelledError"


def found(key: str) -> str:
    return "ch_" + key


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    "if_unknown", ["repeat", "hold", found], ids=["repeat", "hold", "look-up"]
)
def test_client_that_goes_away_does_not_cut_the_call(
    if_unknown: Any, times: int
) -> None:
    """FR-105: it is made to its end and remembered, and nothing is held."""

    async def both() -> None:
        task = asyncio.ensure_future(apost())
        await until(lambda: len(stage.asked) == 1)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0.01)
        ended.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    ended = asyncio.Event()
    stage.during = ended.wait
    stage.deed = paying(stage.charge, if_unknown=if_unknown)
    async_to_sync(both)()

    assert (states(), remembered()) == (["released"], [("charge", True)])
    assert record().last_error == CANCELLED
    assert words() == ["201", "201 replayed"]
    assert len(stage.asked) == 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_client_that_goes_away_at_any_statement_leaves_nothing_held(
    after: bool,
) -> None:
    stage.deed = holding = paying(stage.charge, if_unknown="hold")
    for at in range(len(statements_of_a_request())):
        stage.deed = holding
        scene.key = new_key()
        IdempotencyRecord.objects.all().delete()

        assert send_cancelled(Cancelling(at, after=after)) == "cancelled"
        assert states() in (["released"], ["kept"])
        assert words()[-1] == "201 replayed"
        assert len(stage.asked) == len(set(stage.asked))


def test_time_out_of_the_view_comes_behind_the_call() -> None:
    """It can't be told from a client that goes away."""

    async def impatient(request: Any) -> tuple[int, Any]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await request.idempotency.acall("charge", stage.charge)
        return 503, {}

    stage.deed = impatient
    stage.during = lambda: asyncio.sleep(0.1)

    assert send().status == 503
    assert remembered() == [("charge", True)]


def test_cancellation_is_not_lost_when_the_claim_fails() -> None:
    """FR-105: whoever has cancelled must hear of it."""

    class Failing(Cancelling):
        def __call__(self, execute: Any, sql: str, *args: Any) -> Any:
            super().__call__(lambda *args: None, sql, *args)
            raise OperationalError("server closed the connection")

    word = send_cancelled(Failing(0, after=False))

    assert (word, states()) == ("cancelled", [])


def test_copy_that_is_cancelled_while_it_waits_leaves_the_first_alone() -> None:
    """FR-105."""

    async def both() -> Answer:
        first = asyncio.ensure_future(apost("patient"))
        await until(lambda: len(stage.asked) == 1)
        seen = len(looks.seen)
        copy = asyncio.ensure_future(apost("patient"))
        await until(lambda: len(looks.seen) > seen + 5)  # it has looked again
        copy.cancel()
        with suppress(asyncio.CancelledError):
            await copy
        ended.set()
        return await first

    ended, looks = asyncio.Event(), Statements()
    stage.during = ended.wait

    with connection.execute_wrapper(looks):
        assert async_to_sync(both)().word == "201"
    assert send("patient").word == "201 replayed"


def test_view_that_swallows_its_cancellation_answers_as_it_likes() -> None:
    async def stubborn(request: Any) -> tuple[int, Any]:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(TIMEOUT)
        return 201, {}

    async def sent() -> str:
        task = asyncio.ensure_future(apost())
        await until(lambda: stage.runs == 1)
        task.cancel()
        return (await task).word

    stage.deed = stubborn

    assert async_to_sync(sent)() == "201"
    assert send().word == "201 replayed"


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
) -> list[int]:
    """Be an ASGI server for one request, whose client hangs up when it is `gone`."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/{path}/",
        "query_string": b"",
        "headers": [(b"host", b"testserver"), (b"idempotency-key", key.encode())],
    }
    server: Any = ApplicationCommunicator  # untyped
    served = server(get_asgi_application(), scope)
    await served.send_input({"type": "http.request", "body": b"{}"})
    await until(lambda: gone() or served.future.done())
    await served.send_input({"type": "http.disconnect"})
    await served.wait(TIMEOUT)
    answered = [
        served.output_queue.get_nowait() for _ in range(served.output_queue.qsize())
    ]
    return [message["status"] for message in answered if "status" in message]


def test_client_that_hangs_up_may_come_back() -> None:
    """FR-105: the call is made to its end, and its result is there then."""
    stage.during = lambda: asyncio.sleep(0.2)
    with watched() as threads:
        sent = asyncio.run(
            serve("plain", scene.key, gone=lambda: len(stage.asked) == 1)
        )
        again = [asyncio.run(serve("plain", scene.key)) for _ in range(2)]

    assert (sent, again) == ([], [[201], [201]])
    assert (len(stage.asked), Order.objects.count()) == (1, 1)
    assert all(len(users) == 1 for users in threads.users)
    assert threading.get_ident() not in set().union(*threads.users)
    until_true(lambda: sessions_of_others() == 0)


def test_requests_in_one_loop_keep_to_their_own_connections() -> None:
    async def several() -> list[list[int]]:
        keys = [new_key() for _ in range(4)]
        return await asyncio.gather(*(serve("patient", key) for key in keys * 2))

    with watched() as threads:
        answers = asyncio.run(several())

    assert answers == [[201]] * 8
    assert (Order.objects.count(), len(set(stage.asked))) == (4, 4)
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
