"""Pytest plugin: one temporary PostgreSQL for the whole run.

It is named with ``-p`` in the pytest options, because a ``conftest.py`` is loaded too
late: pytest-django reads the settings before any conftest. Only the process that was
started by hand starts a server; xdist's workers inherit ``DATABASE_URL``, and so does
a run that sets it itself::

    DATABASE_URL=sqlite:///test.sqlite3 pytest
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from example_project import devdb

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
    server = devdb.temporary()
    os.environ["DATABASE_URL"] = server.__enter__().url

    def stop() -> None:
        del os.environ["DATABASE_URL"]
        server.__exit__(None, None, None)

    # Runs on every way out of pytest that is an exception, usage errors included.
    config.add_cleanup(stop)
    _make_termination_an_exception()


def _make_termination_an_exception() -> None:
    """Without this, SIGTERM would end pytest and leave the server running."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _raise_interrupt)


def _raise_interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
