"""The points at which a server process can be hurt: statements, commits, outside calls.

Who is to be hurt, and where, is said by a `Fault`, which holds for one request or for one
event of a worker. Before anything happens it is written to a log that outlives the
process, since nobody else could tell.
"""

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.contrib.auth.models import AnonymousUser, User
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from tests.faults.conditions import FOLDER, LOG, NODES
from tests.faults.databases import session_of
from tests.faults.plans import Fault

PAUSE_SECONDS = 0.6
"""How long a process stands still for somebody to restart the database meanwhile."""


class Armed:
    """A fault that waits for its point."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.passed: list[tuple[str, str]] = []
        """Where it has been, and what was there."""
        self.has_struck = False

    @contextmanager
    def running(self) -> Iterator[None]:
        token = _armed.set(self)
        try:
            with connection.execute_wrapper(_at_statement):
                yield
        finally:
            _armed.reset(token)

    def strike(self, where: str, number: int, when: str, detail: str) -> None:
        fault = self.fault
        if self.has_struck or (fault.where, fault.at, fault.when) != (
            where,
            number,
            when,
        ):
            return
        if fault.act in ACTS:
            self.has_struck = True
            _log(fault, detail)
            ACTS[fault.act](fault)

    def arrive(self, where: str, detail: str) -> int:
        """Return the how manieth of its sort this is, from 1."""
        self.passed.append((where, detail))
        return Counter(each for each, _ in self.passed)[where]

    def log_passed(self) -> None:
        _log(self.fault, json.dumps(self.passed))


_armed: ContextVar[Armed | None] = ContextVar("armed", default=None)


@contextmanager
def at_point(where: str, detail: str = "") -> Iterator[None]:
    """What happens inside is a point; an armed fault strikes before or after it."""
    waiting = _armed.get()
    if waiting is None:
        yield
        return
    number = waiting.arrive(where, detail)
    waiting.strike(where, number, "before", detail)
    yield
    waiting.strike(where, number, "after", detail)


def provider_fault() -> str:
    """Return what the provider is to do to this call, once."""
    waiting = _armed.get()
    if waiting is None or waiting.has_struck or not waiting.fault.provider:
        return ""
    waiting.has_struck = True
    _log(waiting.fault, waiting.fault.provider)
    return waiting.fault.provider


def install() -> None:
    """Make each COMMIT a point; Django's wrappers see statements only."""
    backend: Any = type(connections[DEFAULT_DB_ALIAS])
    commit = backend._commit

    def commit_at_point(self: Any) -> None:
        with at_point("commit", "COMMIT"):
            commit(self)

    backend._commit = commit_at_point
    if ports := [int(port) for port in os.environ.get(NODES, "").split()]:
        _spread(backend, ports)


def _spread(backend: Any, ports: list[int]) -> None:
    """Let each connection be made to one of the nodes.

    All that is done to a session is done at its own node.
    """
    get_connection_params = backend.get_connection_params
    draw = random.SystemRandom().choice  # not what all forks have of their parent

    def at_some_node(self: Any) -> dict[str, Any]:
        if self.connection is None:
            self.port = draw(ports)
        return {**get_connection_params(self), "port": self.port}

    backend.get_connection_params = at_some_node


def _at_statement(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
) -> Any:
    with at_point("statement", " ".join(sql.split())[:60]):
        return execute(sql, params, many, context)


def _log(fault: Fault, detail: str) -> None:
    tell({**asdict(fault), "pid": os.getpid(), "detail": detail})


@contextmanager
def execution_of(operation: int) -> Iterator[None]:
    """Tell when the work of an operation begins, and when it is over."""
    by = uuid4().hex
    tell({"begun": operation, "by": by})
    try:
        yield
    finally:
        tell({"left": operation, "by": by})


def tell(line: Mapping[str, Any]) -> None:
    """Write to the log what outlives this process."""
    line = {**line, "time": time.time()}
    descriptor = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


def _signal(number: signal.Signals) -> Callable[[Fault], None]:
    def send(fault: Fault) -> None:
        # To this thread: one sent to the process may be taken by another thread, and
        # this one would go on until that is scheduled.
        signal.pthread_kill(threading.get_ident(), number)

    return send


def _drop(fault: Fault) -> None:
    """Let the server end this session; after the point, its answer is lost as well."""
    if connection.connection is None:
        return
    session = session_of(connection)
    session.end()
    if fault.when == "after" and fault.where != "call":
        lost = session.lose()
        raise OperationalError(*lost.args) from lost


def _by_the_server(what: str) -> Callable[[Fault], None]:
    def strike(fault: Fault) -> None:
        if connection.connection is not None:
            getattr(session_of(connection), what)()

    return strike


def _pause(fault: Fault) -> None:
    time.sleep(PAUSE_SECONDS)


ACTS: dict[str, Callable[[Fault], None]] = {
    "kill": _signal(signal.SIGKILL),
    "stop": _signal(signal.SIGSTOP),
    "drop": _drop,
    "cancel": _by_the_server("cancel"),
    "alter": _by_the_server("alter"),
    "time-out": _by_the_server("time_out"),
    "outrun": _by_the_server("be_outrun"),
    "restart": _pause,
    "crash": _pause,
    "cut": _pause,
}


def fault_for(target: str) -> Fault | None:
    """Take one of the faults that are put there for such processes; one of them gets it."""
    for path in sorted(Path(os.environ[FOLDER]).glob(f"{target}-*.json")):
        taken = path.with_suffix(f".{os.getpid()}")
        try:
            path.rename(taken)
        except FileNotFoundError:
            continue
        return Fault(**json.loads(taken.read_text()))
    return None


def serve_with_faults(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """The only middleware: who asks, and what the server is to suffer meanwhile."""

    def middleware(request: HttpRequest) -> HttpResponseBase:
        number = request.headers.get("X-User")
        request.user = User(pk=int(number)) if number else AnonymousUser()
        wanted = request.headers.get("X-Fault")
        if not wanted:
            return get_response(request)
        armed = Armed(Fault(**json.loads(wanted)))
        with armed.running():
            response = get_response(request)
        if armed.fault.act == "record":
            armed.log_passed()
        return response

    return middleware
