"""The worker's command, run in this process."""

import os
import re
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from django_idempotency.management.commands import process_events
from django_idempotency.management.heartbeat import Heartbeat
from django_idempotency.management.interruption import Interruption
from django_idempotency.webhooks import Event
from django_idempotency.webhooks.inbox import process_next
from tests.integration.webhooks.receivers import marks, only, scene, states
from tests.support.deliveries import deliver, stripe
from tests.support.threads import crew, second_connection, start

pytestmark = marks

Output = pytest.CaptureFixture[str]


def test_what_is_due_is_handled_and_told(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.failures.append(ValueError())
    for number in range(3):
        deliver("/inbox/", stripe(f"evt_{number}"))
    call_command("process_events", until_empty=True)
    monkeypatch.setattr(process_events, "SECONDS_BETWEEN_REPORTS", 0)
    deliver("/inbox/", stripe("another"))
    call_command("process_events", until_empty=True, progress=True)
    call_command("process_events", until_empty=True)

    assert capsys.readouterr().out.splitlines() == [
        "Handled 1 failed, 2 processed.",
        "Handled 1 processed so far.",
        "Handled 1 processed.",
        "Handled nothing.",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_it_after_an_event(number: signal.Signals, capsys: Output) -> None:
    def stop(event: Event) -> None:
        signal.raise_signal(number)

    scene.act = stop
    for event_id in ("evt_1", "evt_2"):
        deliver("/inbox/", stripe(event_id))
    before = signal.getsignal(number)
    call_command("process_events")

    assert capsys.readouterr().out == "Handled 1 processed.\n"
    assert states() == {"evt_1": "processed", "evt_2": "received"}
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("value", ["-1", "nan", "soon", "inf", "1e300"])
def test_value_that_cannot_be_meant_is_refused(value: str) -> None:
    for option in ("poll-seconds", "rerun"):
        with pytest.raises(CommandError, match=option):
            call_command("process_events", f"--{option}={value}")


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """As in a terminal; whoever runs in the background may have been told to ignore it."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("_interruptible")
def test_second_interruption_is_raised_at_once() -> None:
    def stop_twice(event: Event) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    scene.act = stop_twice
    deliver("/inbox/", stripe())
    with pytest.raises(KeyboardInterrupt):
        call_command("process_events")
    event = only()
    assert (event.state, event.attempts) == ("received", 1)


def test_sleeper_is_woken_by_the_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops at once, though it would sleep for an hour."""
    sleep = Interruption.wait

    def wait(self: Interruption, seconds: float) -> None:
        signal.raise_signal(signal.SIGTERM)
        sleep(self, seconds)

    monkeypatch.setattr(Interruption, "wait", wait)
    call_command("process_events", poll_seconds=3600)


def test_sleeper_is_woken_by_a_signal_that_another_thread_gets() -> None:
    """Python runs the handler in the main thread, but the system doesn't wake that."""

    def send() -> None:
        time.sleep(0.2)  # too early, and the sleep isn't begun
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    with Interruption(signal.SIGTERM) as interruption, crew() as threads:
        start(threads, send)
        interruption.wait(3600)

    assert interruption.is_wanted


@pytest.mark.postgresql
def test_worker_outlives_a_database_that_is_away(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a run that is to end ends with an error."""
    sleep = Interruption.wait
    port = connection.settings_dict["PORT"]

    def wait(self: Interruption, seconds: float) -> None:
        """The database is back after the first pause, and the inbox then empty."""
        if connection.settings_dict["PORT"] == port:
            signal.raise_signal(signal.SIGTERM)
        connection.settings_dict["PORT"] = port
        sleep(self, 0)

    deliver("/inbox/", stripe())
    monkeypatch.setattr(Interruption, "wait", wait)
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    with pytest.raises(OperationalError):
        call_command("process_events", until_empty=True)
    call_command("process_events")

    told = capsys.readouterr()
    assert told.out == "Handled 1 processed.\n"
    assert "The database can't be reached" in told.err


@pytest.mark.postgresql
def test_connection_lost_in_the_handler_costs_one_attempt(capsys: Output) -> None:
    def lose_it(event: Event) -> None:
        if event.attempt == 1:
            with (
                second_connection() as other,
                connection.cursor() as cursor,
                other.cursor() as killer,
            ):
                cursor.execute("SELECT pg_backend_pid()")
                killer.execute(
                    "SELECT pg_terminate_backend(%s, 5000)", cursor.fetchone()
                )

    scene.act = lose_it
    deliver("/inbox/", stripe())
    call_command("process_events", until_empty=True)
    event = only()

    assert capsys.readouterr().out == "Handled 1 failed.\n"
    assert event.state in {"failed", "received"}
    assert event.next_attempt_at is not None


def test_worker_of_one_endpoint_leaves_the_others_alone(capsys: Output) -> None:
    """So slow failures of one delay no other."""
    for event_id in ("evt_1", "evt_2"):
        deliver("/inbox/", stripe(event_id))
        deliver("/limited-inbox/", stripe(event_id))
        deliver("/ordered/", stripe(event_id))

    def run(*names: str) -> str:
        options = [f"--endpoint=tested-{name}" for name in names]
        call_command("process_events", "--until-empty", *options)
        return capsys.readouterr().out

    assert run("limited-inbox") == "Handled 2 processed.\n"
    assert {event.endpoint for event in scene.events} == {"tested-limited-inbox"}
    assert run("limited-inbox", "ordered") == "Handled 2 processed.\n"
    assert run() == "Handled 2 processed.\n"


@pytest.mark.parametrize("names", [["nobody"], ["tested-inbox", "nobody"], ""])
def test_endpoint_that_is_not_there_is_refused(names: Any) -> None:
    """A worker would wait for its events for ever."""
    names = names or "tested-inbox"
    with pytest.raises(ValueError, match=r"nobody|must be a collection"):
        process_next(endpoints=names)
    with pytest.raises(CommandError, match=r"There are: .*'tested-inbox'"):
        call_command("process_events", "--until-empty", "--endpoint=nobody")


# What it tells whoever watches it

TIME = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"


def watched(monkeypatch: pytest.MonkeyPatch, look: Callable[[], None]) -> None:
    """Let somebody look before each pause of the worker; the second one is its last."""
    sleep = Interruption.wait
    pauses: list[float] = []

    def wait(self: Interruption, seconds: float) -> None:
        look()
        pauses.append(seconds)
        if len(pauses) == 2:
            signal.raise_signal(signal.SIGTERM)
        sleep(self, 0)

    monkeypatch.setattr(Interruption, "wait", wait)


def test_health_file_says_what_the_worker_does_as_long_as_it_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    health = tmp_path / "health"
    said: list[str] = []
    ages: list[float] = []

    def look(*event: Event) -> None:
        said.append(health.read_text())
        ages.append(time.time() - health.stat().st_mtime)
        os.utime(health, (0, 0))

    scene.act = look
    watched(monkeypatch, look)
    deliver("/inbox/", stripe())
    call_command("process_events", health_file=str(health))

    assert [re.sub(TIME, "TIME", each) for each in said] == [
        "TIME at work; handled nothing\n",
        "TIME waiting for events; handled 1 processed\n",
        "TIME waiting for events; handled 1 processed\n",
    ]
    assert max(ages) < 60
    assert [*tmp_path.iterdir()] == []


@pytest.mark.postgresql
def test_worker_without_a_database_says_so_and_is_alive(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    health = tmp_path / "health"
    said: list[str] = []
    watched(monkeypatch, lambda: said.append(health.read_text()))
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    call_command("process_events", health_file=str(health))

    assert ["waiting for the database" in each for each in said] == [True, True]


@pytest.mark.parametrize("name", ["missing/health", "", "folder"])
def test_health_file_that_cannot_be_written_is_refused_at_the_start(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "folder").mkdir()
    path = tmp_path / name if name else "."
    deliver("/inbox/", stripe())
    with pytest.raises(CommandError, match=r"--health-file .* can't be written"):
        call_command("process_events", until_empty=True, health_file=str(path))
    assert scene.handled == []


def test_full_disk_stops_no_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Output
) -> None:
    """Its file gets old, which is what the probe looks at."""
    folder = tmp_path / "run"
    folder.mkdir()
    health = folder / "health"

    def lose_it(event: Event) -> None:
        health.unlink()
        folder.rmdir()

    scene.act = lose_it
    watched(monkeypatch, lambda: None)
    deliver("/inbox/", stripe())
    call_command("process_events", health_file=str(health))
    told = capsys.readouterr()

    assert told.out == "Handled 1 processed.\n"
    assert told.err.count("health file") == 1


def test_systemd_that_does_not_read_stops_no_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other,
    ):
        address = f"{folder}/notify"
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        systemd.bind(address)
        other.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                other.sendto(b"WATCHDOG=1", address)
        heart = Heartbeat(None, warn=print)
        with crew() as threads:
            beating = start(threads, heart.beat, "at work", "nothing")
            done, _ = wait([beating], timeout=10)
            systemd.close()
    assert done == {beating}


@pytest.mark.parametrize("kind", ["path", "abstract", "gone"])
def test_systemd_is_told_when_it_asks(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
    ):
        name = "@" if kind == "abstract" else ""
        address = f"{name}{folder}/notify"
        if kind != "gone":
            systemd.bind(address.replace("@", "\0"))
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        watched(monkeypatch, lambda: None)
        deliver("/inbox/", stripe())
        call_command("process_events")
        told = []
        systemd.setblocking(False)
        while kind != "gone":
            try:
                told.append(systemd.recv(4096).decode())
            except BlockingIOError:
                break

    assert states() == {"evt_1": "processed"}
    if kind != "gone":
        assert told == [
            "READY=1\nWATCHDOG=1\nSTATUS=at work; handled nothing",
            "WATCHDOG=1\nSTATUS=waiting for events; handled 1 processed",
            "WATCHDOG=1\nSTATUS=at work; handled 1 processed",
            "WATCHDOG=1\nSTATUS=waiting for events; handled 1 processed",
            "STOPPING=1",
        ]
