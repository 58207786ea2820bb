"""The embedded PostgreSQL: started once, found again, stopped, and gone."""

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

from example_project.theatre import devdb
from tests.support.servers import ServerFailed, postgresql

# They know no Django, so that one row of the matrix is enough for them.
PROJECT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def home(request: pytest.FixtureRequest) -> Iterator[Path]:
    """In a folder that everybody may enter, unless a test says otherwise."""
    with tempfile.TemporaryDirectory(prefix="devdb-test-") as name:
        Path(name).chmod(getattr(request, "param", 0o755))
        home = Path(name) / "home"
        yield home
        devdb.stop(home)
        shutil.rmtree((home / "cluster").resolve(), ignore_errors=True)


def in_other_processes(number: int, home: Path) -> list[str]:
    """Start the server from that many processes at once; what each found."""
    command = [sys.executable, "-m", "example_project.theatre.devdb", "start", "--home"]
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


@pytest.mark.parametrize("home", [0o755, 0o700], ids=oct, indirect=True)
def test_stopped_server_is_not_running_and_its_data_stays(home: Path) -> None:
    server = devdb.start(home)
    identifier = (server.data / "PG_VERSION").stat().st_ino

    assert devdb.stop(home)
    assert devdb.running(home) is None
    assert not is_alive(server.pid)
    assert not devdb.stop(home)
    data = devdb.start(home).data
    assert (data / "PG_VERSION").stat().st_ino == identifier


def test_killed_server_is_replaced(home: Path) -> None:
    killed = devdb.start(home)
    os.kill(killed.pid, signal.SIGKILL)
    while is_alive(killed.pid):
        time.sleep(0.01)

    assert devdb.start(home).pid != killed.pid


@pytest.mark.parametrize(
    "content",
    ["", "garbage", "123\n", f"{os.getpid()}\n/\n0\n5432\n\n127.0.0.1\n\nready\n"],
    ids=["empty", "garbage", "cut", "of-somebody-else"],
)
def test_pid_file_of_no_server_is_ignored(home: Path, content: str) -> None:
    data = stopped(home)
    (data / "postmaster.pid").write_text(content)

    assert devdb.running(home) is None
    assert devdb.start(home) == devdb.running(home)


def test_zombie_is_no_server(home: Path) -> None:
    data = stopped(home)
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.read()  # ends when the child does, which nobody has reaped yet
        lines = [str(child.pid), str(data), "0", "5432", "", "127.0.0.1", "", "ready"]
        (data / "postmaster.pid").write_text("\n".join([*lines, ""]))

        assert devdb.running(home) is None
        assert devdb.start(home).pid != child.pid


def test_interrupted_initdb_is_begun_again(home: Path) -> None:
    unfinished = stopped(home).with_name("data.new")
    unfinished.with_name("data").rename(unfinished)
    (unfinished / "PG_VERSION").unlink()

    assert devdb.start(home) == devdb.running(home)


def test_temporary_server_is_gone_even_after_an_exception() -> None:
    with pytest.raises(LookupError), postgresql.temporary() as server:
        raise LookupError

    assert not is_alive(server.pid)
    assert not server.data.parent.exists()


def test_temporary_server_takes_settings() -> None:
    with postgresql.temporary({"max_connections": "7", "fsync": "on"}) as server:
        configuration = (server.data / "postgresql.conf").read_text()

    assert "\nmax_connections = '7'" in configuration
    assert "\nfsync = 'on'" in configuration


def test_failure_tells_what_the_log_says() -> None:
    server = postgresql.temporary({"max_connections": "many"})
    with pytest.raises(ServerFailed, match="max_connections"), server:
        pass


def test_folder_without_programs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTGRESQL_PROGRAMS", str(tmp_path))
    refused = pytest.raises(ServerFailed, match="no programs of PostgreSQL")

    with refused, postgresql.temporary():
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


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
