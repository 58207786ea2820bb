"""Server processes: they share nothing but the database, and may die at any time."""

import http.client
import signal

import psutil
import pytest

from django_idempotency.models import IdempotencyRecord
from tests.concurrency.conftest import AT_THE_SHOP, Pair
from tests.concurrency.servers import server, sessions_in_a_transaction
from tests.support.client import new_key, post, post_to, told
from tests.support.programs import running
from tests.support.threads import (
    AT_A_CLAIM,
    AT_THE_GATE,
    TIMEOUT,
    crew,
    gate_closed,
    start,
    until,
    until_waiting,
)
from tests.testapp.models import Order

pytestmark = AT_THE_SHOP


def test_ten_copies_split_over_two_processes_make_one_order(
    two_servers: Pair,
) -> None:  # FR-004
    key = new_key()
    with gate_closed() as gate, crew() as threads:
        futures = [
            start(threads, post_to, address, "/protected/", key)
            for address in two_servers * 5
        ]
        until_waiting(1, AT_THE_GATE)
        # One for its whole process; the rest wait where they were received.
        until_waiting(1, AT_A_CLAIM)
        gate.open()
        answers = [future.result(TIMEOUT) for future in futures]

    assert told(answers) == {"201": 1, "201 replayed": 9}
    assert Order.objects.count() == 1


def test_storm_of_copies_of_an_operation_of_ninja_makes_one_order(
    two_servers: Pair,
) -> None:
    key = new_key()
    with gate_closed() as gate, crew() as threads:
        futures = [
            start(threads, post_to, address, "/ninja/orders/", key)
            for address in two_servers * 16
        ]
        until_waiting(1, AT_THE_GATE)
        until_waiting(1, AT_A_CLAIM)
        gate.open()
        answers = [future.result(TIMEOUT) for future in futures]

    assert told(answers) == {"201": 1, "201 replayed": 31}
    assert {answer.body for answer in answers} == {answers[0].body}
    assert answers[0].json == {"order": Order.objects.get().pk, "amount": 1}


def test_two_processes_without_protection_make_an_order_each(two_servers: Pair) -> None:
    words = [post_to(address, "/unprotected/", "k").word for address in two_servers]

    assert words == ["201", "201"]
    assert Order.objects.count() == 2


def test_database_refuses_the_record_that_another_process_has_written() -> None:
    # FR-003: computed apart, under other hash seeds, inserted past the engine's checks.
    program = ("-m", "tests.concurrency.write_records")
    with (
        running(*program, PYTHONHASHSEED="0") as one,
        running(*program, PYTHONHASHSEED="1") as other,
    ):
        said = [writer.communicate(timeout=60)[0].split() for writer in (one, other)]

    assert [sorted(words) for words in zip(*said, strict=True)] == [
        ["inserted", "refused"],
        ["inserted", "refused"],
    ]


def test_restart_between_two_tries_changes_nothing() -> None:  # FR-004
    key = new_key()
    words = []
    for _ in range(2):
        with server() as restarted:
            words.append(post_to(restarted.address, "/protected/", key).word)

    assert words == ["201", "201 replayed"]
    assert Order.objects.count() == 1


def test_derived_key_is_equal_in_another_process(two_servers: Pair) -> None:  # FR-027
    key = new_key()
    derived = []
    for address in two_servers:
        derived.append(post_to(address, "/protected/", key).json["charge_key"])
        # As if the first attempt had been rolled back.
        IdempotencyRecord.objects.all().delete()

    assert derived[0] == derived[1]


def test_retry_behind_the_first_try_in_one_worker_is_replayed() -> None:
    """FR-021: the client has given up, the worker has not, and the retry is queued."""
    key = new_key()
    with server("one-by-one") as worker, gate_closed() as gate, crew() as threads:
        with pytest.raises(TimeoutError):
            post_to(worker.address, "/protected/", key, timeout=0.5)
        until_waiting(1, AT_THE_GATE)
        retry = start(threads, post_to, worker.address, "/protected/", key)
        gate.open()
        word = retry.result(TIMEOUT).word

    assert word == "201 replayed"
    assert Order.objects.count() == 1


def test_key_of_a_killed_process_is_free_at_once() -> None:
    """Killed in its view, after the claim and the order, before the commit."""
    key = new_key()
    with server(sends_itself=signal.SIGKILL) as doomed:
        with pytest.raises((OSError, http.client.HTTPException)):
            post_to(doomed.address, "/impatient/", key)
        doomed.process.wait(TIMEOUT)

    # It does not wait: nobody holds the key any more.
    until(lambda: not sessions_in_a_transaction())
    assert not IdempotencyRecord.objects.exists()
    assert post("/impatient/", key).word == "201"
    assert Order.objects.count() == 1


def test_copy_takes_over_from_a_killed_process() -> None:
    key = new_key()
    with (
        server(sends_itself=signal.SIGKILL) as doomed,
        gate_closed() as gate,
        crew() as threads,
    ):
        victim = start(threads, post_to, doomed.address, "/protected/", key)
        until_waiting(1, AT_THE_GATE)
        copy = start(threads, post, "/protected/", key)
        until_waiting(1, AT_A_CLAIM)
        gate.open()
        assert isinstance(
            victim.exception(TIMEOUT), (OSError, http.client.HTTPException)
        )

    assert copy.result(TIMEOUT).word == "201"
    assert Order.objects.count() == 1


def test_key_of_a_stopped_process_is_blocked_while_the_server_waits_for_it() -> None:
    key = new_key()
    with server(sends_itself=signal.SIGSTOP) as stopped, crew() as threads:
        victim = start(threads, post_to, stopped.address, "/hasty/", key)
        until(lambda: is_stopped(stopped.process.pid))
        words = [post("/hasty/", key).word for _ in range(3)]
        stopped.process.kill()
        victim.exception(TIMEOUT)

    assert words == ["409 in-flight"] * 3


@pytest.mark.direct
def test_key_of_a_stopped_process_is_free_after_the_servers_timeout() -> None:
    """And when the process comes back, the late writer finds its transaction gone."""
    key = new_key()
    with (
        server(
            session_options="-c idle_in_transaction_session_timeout=1s",
            sends_itself=signal.SIGSTOP,
        ) as stopped,
        crew() as threads,
    ):
        late = start(threads, post_to, stopped.address, "/protected/", key)
        until(lambda: is_stopped(stopped.process.pid))
        # Waits at the claim, and gets it as soon as the server drops the transaction.
        assert post("/protected/", key).word == "201"
        stopped.process.send_signal(signal.SIGCONT)
        answer = late.result(TIMEOUT)

    assert answer.status == 500
    assert Order.objects.count() == 1


def is_stopped(pid: int) -> bool:
    status: str = psutil.Process(pid).status()
    return status == psutil.STATUS_STOPPED
