"""Pytest plugin: one temporary PostgreSQL for the whole run.

It is named with ``-p`` in the pytest options, because a ``conftest.py`` is loaded too
late: pytest-django reads the settings before any conftest. Only the process that was
started by hand starts a server; xdist's workers inherit ``DATABASE_URL``, and so does
a run that sets it itself::

    DATABASE_URL=sqlite:///test.sqlite3 pytest

Its programs are those of the wheel, or those in the folder ``POSTGRESQL_PROGRAMS``.
Where ``PGBOUNCER`` names that program, it stands between the tests and the server::

    PGBOUNCER=/usr/sbin/pgbouncer pytest --reuse-db

Where ``CITUS`` names the programs of a PostgreSQL with Citus, there are three servers
of it: see :mod:`tests.support.citus`.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support import citus, pgbouncer
from tests.support.servers import postgresql

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import FrameType

_ANSWERED_WITHOUT_TESTS = {"--help", "-h", "--version", "-V"}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, args: list[str]
) -> Generator[None]:
    if "DATABASE_URL" not in os.environ and _ANSWERED_WITHOUT_TESTS.isdisjoint(args):
        _start_server(early_config)
    return (yield)


def _start_server(config: pytest.Config) -> None:
    stack = ExitStack()
    # Runs on every way out of pytest that is an exception, usage errors included.
    config.add_cleanup(stack.close)
    if citus.is_used():
        os.environ["DATABASE_URL"] = stack.enter_context(citus.running()).url
        stack.callback(os.environ.pop, "DATABASE_URL")
        make_termination_an_exception()
        return
    server = stack.enter_context(postgresql.temporary({"max_connections": "300"}))
    url = server.url
    if program := os.environ.get(pgbouncer.VARIABLE):
        between = pgbouncer.pgbouncer(program, server_port=server.port)
        port = stack.enter_context(between)
        url = url.replace(f":{server.port}/", f":{port}/")
    os.environ["DATABASE_URL"] = url
    stack.callback(os.environ.pop, "DATABASE_URL")
    make_termination_an_exception()


def make_termination_an_exception() -> None:
    """Without this, SIGTERM would end pytest and leave the server running."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _raise_interrupt)


def _raise_interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
