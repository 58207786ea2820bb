"""The embedded PostgreSQL: started once, found again, stopped, and gone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from example_project import devdb

# They know no Django, so that one row of the matrix is enough for them.
pytestmark = pytest.mark.concurrency

PROJECT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that everybody can enter."""
    with tempfile.TemporaryDirectory(prefix="devdb-test-") as name:
        Path(name).chmod(0o755)
        yield from emptied(Path(name) / "home")


@pytest.fixture
def closed_home() -> Iterator[Path]:
    """A folder that only we can enter."""
    with tempfile.TemporaryDirectory(prefix="devdb-test-") as name:
        yield from emptied(Path(name) / "home")


def emptied(home: Path) -> Iterator[Path]:
    yield home
    devdb.stop(home)
    shutil.rmtree((home / "cluster").resolve(), ignore_errors=True)


def in_other_processes(number: int, home: Path) -> list[str]:
    """Start the server from that many processes at once; what each found."""
    command = [sys.executable, "-m", "example_project.devdb", "start", "--home"]
    processes = [
        subprocess.Popen(  # noqa: S603
            [*command, home], cwd=PROJECT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(number)
    ]
    return [process.communicate(timeout=60)[0].strip() for process in processes]


def test_twelve_processes_at_once_get_one_server(home: Path) -> None:
    urls = in_other_processes(12, home)

    server = devdb.running(home)
    assert server is not None
    assert urls == [server.url] * 12


def test_server_listens_on_loopback_only(home: Path) -> None:
    server = devdb.start(home)

    listening = {
        connection.laddr.ip
        for connection in psutil.Process(server.pid).net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_stopped_server_is_not_running(home: Path) -> None:
    server = devdb.start(home)

    assert devdb.stop(home)
    assert devdb.running(home) is None
    assert not is_alive(server.pid)
    assert not devdb.stop(home)


def test_data_outlives_the_server(home: Path) -> None:
    identifier = (devdb.start(home).data / "PG_VERSION").stat().st_ino
    devdb.stop(home)

    assert (devdb.start(home).data / "PG_VERSION").stat().st_ino == identifier


def test_killed_server_is_replaced(home: Path) -> None:
    killed = devdb.start(home)
    os.kill(killed.pid, signal.SIGKILL)
    while is_alive(killed.pid):
        time.sleep(0.01)

    assert devdb.start(home).pid != killed.pid


@pytest.mark.parametrize("content", ["", "garbage", "123\n"])
def test_damaged_pid_file_is_ignored(home: Path, content: str) -> None:
    data = stopped(home)
    (data / "postmaster.pid").write_text(content)

    assert devdb.running(home) is None
    assert devdb.start(home) == devdb.running(home)


def test_pid_of_somebody_else_is_no_server(home: Path) -> None:
    data = stopped(home)
    pretend(data, os.getpid())

    assert devdb.running(home) is None
    assert devdb.start(home).pid != os.getpid()


def test_zombie_is_no_server(home: Path) -> None:
    data = stopped(home)
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.read()  # ends when the child does, which nobody has reaped yet
        pretend(data, child.pid)

        assert devdb.running(home) is None
        assert devdb.start(home).pid != child.pid


def test_interrupted_initdb_is_begun_again(home: Path) -> None:
    unfinished = stopped(home).with_name("data.new")
    unfinished.with_name("data").rename(unfinished)
    (unfinished / "PG_VERSION").unlink()

    assert devdb.start(home) == devdb.running(home)


def test_server_starts_where_only_its_starter_can_enter(closed_home: Path) -> None:
    assert devdb.start(closed_home) == devdb.running(closed_home)


def test_temporary_server_is_gone_at_the_end() -> None:
    with devdb.temporary() as server:
        assert is_alive(server.pid)

    assert not is_alive(server.pid)
    assert not server.data.parent.exists()


def test_temporary_server_is_gone_after_an_exception() -> None:
    with pytest.raises(LookupError), devdb.temporary() as server:
        raise LookupError

    assert not is_alive(server.pid)
    assert not server.data.parent.exists()


def test_temporary_server_takes_settings() -> None:
    with devdb.temporary({"max_connections": "7", "fsync": "on"}) as server:
        configuration = (server.data / "postgresql.conf").read_text()

    assert "\nmax_connections = '7'" in configuration
    assert "\nfsync = 'on'" in configuration


def test_failure_tells_what_the_log_says() -> None:
    with (
        pytest.raises(devdb.DevDbError, match="max_connections"),
        devdb.temporary({"max_connections": "many"}),
    ):
        pass


def test_folder_without_programs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRESQL_PROGRAMS", str(tmp_path))

    with (
        pytest.raises(devdb.DevDbError, match="no programs of PostgreSQL"),
        devdb.temporary(),
    ):
        pass


def test_command_tells_and_does(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(action: str) -> tuple[int, str]:
        status = devdb.main([action, "--home", str(home)])
        return status, capsys.readouterr().out.strip()

    assert run("status") == (1, "not running")
    assert run("url") == (1, "not running")
    status, url = run("start")
    assert (status, url) == (0, devdb.start(home).url)
    assert run("url") == (0, url)
    assert run("status") == (0, f"running at {url}")
    assert run("stop") == (0, "stopped")
    assert run("stop") == (0, "was not running")


def stopped(home: Path) -> Path:
    """The data folder of a server that was stopped."""
    data = devdb.start(home).data
    devdb.stop(home)
    return data


def pretend(data: Path, pid: int) -> None:
    lines = [str(pid), str(data), "0", "5432", "", "127.0.0.1", "", "ready", ""]
    (data / "postmaster.pid").write_text("\n".join(lines))


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
