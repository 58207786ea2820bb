"""Pytest plugin: a cluster of MariaDB's nodes that all take writes, on this machine.

It is asked for by a ``DATABASE_URL`` that names none::

    DATABASE_URL=galera:// pytest -m galera

The tests' database is that of the first node. Beside what a MariaDB needs, the programs
are Debian's, of ``galera-4``, ``rsync``, ``lsof`` and, for the scripts by which a node gets
a copy of the others' data, ``mariadb-server``, of which no service has to be started.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.embedded_mariadb import OPTIONS, Server, install
from tests.support.embedded_postgresql import make_termination_an_exception
from tests.support.servers import ServerFailed, free_port
from tests.support.servers.accounts import own_folder, temporary_folder

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path

ASKED_FOR = "galera://"
SIZE = 3
TRIES = 3
PROVIDER = "/usr/lib/galera/libgalera_smm.so"

running: list[Cluster] = []
"""That of the tests, if there is one: each test of it asks for it in this process."""

TIMES = {
    # The others leave a node behind that says nothing for so long: sooner than by
    # default, and later than a machine stands still that has other things to do.
    "evs.keepalive_period": "PT0.5S",
    "evs.inactive_check_period": "PT0.5S",
    "evs.suspect_timeout": "PT3S",
}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    if os.environ.get("DATABASE_URL") == ASKED_FOR:
        stack = contextlib.ExitStack()
        early_config.add_cleanup(stack.close)
        running.append(stack.enter_context(cluster()))
        os.environ["DATABASE_URL"] = running[0].nodes[0].url
        stack.callback(os.environ.update, {"DATABASE_URL": ASKED_FOR})
        stack.callback(running.clear)
        make_termination_an_exception()
    return (yield)


@contextlib.contextmanager
def cluster(options: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """Run one until the end; these options before ours."""
    with contextlib.ExitStack() as stack:
        yield _started(stack, options or {})


def _started(stack: contextlib.ExitStack, options: Mapping[str, str]) -> Cluster:
    for number in range(TRIES):
        folder = temporary_folder("galera-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        made = Cluster(folder, options)
        stack.callback(made.stop)
        try:
            made.start()
        except ServerFailed:
            # Of its many ports somebody may have taken one in between.
            made.stop()
            if number == TRIES - 1:
                raise
        else:
            break
    return made


class Node(Server):
    """One of them, which can also stand still."""

    def __init__(
        self, folder: Path, group: list[int], number: int, options: Mapping[str, str]
    ) -> None:
        own_folder(folder)
        own_folder(folder / "data")
        own_folder(folder / "tmp")
        address = f"127.0.0.1:{group[number]}"
        provider = {
            "gmcast.listen_addr": f"tcp://{address}",
            "ist.recv_addr": f"127.0.0.1:{free_port()}",
            "pc.recovery": "false",
            **TIMES,
        }
        addresses = ",".join(f"127.0.0.1:{port}" for port in group)
        super().__init__(
            folder / "data",
            {
                **OPTIONS,
                "binlog-format": "ROW",
                "innodb-autoinc-lock-mode": "2",
                "wsrep-on": "ON",
                "wsrep-provider": PROVIDER,
                "wsrep-provider-options": ";".join(
                    f"{name}={value}" for name, value in provider.items()
                ),
                "wsrep-cluster-address": f"gcomm://{addresses}",
                "wsrep-node-address": address,
                "wsrep-node-name": f"node{number}",
                "wsrep-sst-method": "rsync",
                "wsrep-sst-receive-address": f"127.0.0.1:{free_port()}",
                **options,
            },
        )

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stand_still(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self.is_running:
            self._process.send_signal(number)

    def stop(self, *, kill: bool = False) -> None:
        self.go_on()
        super().stop(kill=kill)


class Cluster:
    def __init__(self, folder: Path, options: Mapping[str, str]) -> None:
        group = [free_port() for _ in range(SIZE)]
        self.nodes = [
            Node(folder / f"node{number}", group, number, options)
            for number in range(SIZE)
        ]

    def start(self) -> None:
        """Let the first one begin, and each of the others get its data."""
        first, *others = self.nodes
        install(first.data)
        first.start({"wsrep-new-cluster": "1"})
        for node in others:
            node.start()

    def stop(self) -> None:
        for node in self.nodes:
            node.stop(kill=True)
