"""The databases that a campaign can run on, each in its module, and their SQL.

What asks and breaks them here goes past Django and past the package.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")

POSTGRESQL, MARIADB, GALERA = DATABASES = ("postgresql", "mariadb", "galera")

_NO_NODES = "there are no other nodes"
ONE_SERVER = dict.fromkeys(
    ("node-cut-off", "sabotage stream", "sabotage look-again"), _NO_NODES
)
"""What is left out where there is one server."""

RECORDS = "django_idempotency_idempotencyrecord"
EVENTS = "django_idempotency_processedevent"
ORDERS = "testapp_order"

PATIENCE_SECONDS = 60
"""Until a server has come back."""

CANCEL_SECONDS = 0.05
"""After which a statement is cancelled."""


class Database(ABC):
    """A server that comes back after each end, at the same address.

    SQL is written for both, with ANSI's quotes, and `now` and `later` for the clock.
    """

    now: ClassVar[str]
    lost: ClassVar[type[Exception]]
    """What a statement raises while the server isn't there."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def ports(self) -> list[int]:
        """Those of all nodes, if there are several that take writes."""
        return []

    @abstractmethod
    def restart(self) -> bool:
        """Shut it, or a node, down, and say whether it came back."""

    @abstractmethod
    def kill(self) -> bool:
        """kill -9: nobody tells the sessions, nobody cleans up."""

    def cut_off(self) -> bool:
        """Let a node neither hear nor say anything, until the others go on without it."""
        raise NotImplementedError

    @abstractmethod
    def later(self, seconds: float) -> str:
        """The instant so many seconds from now, as SQL."""

    @abstractmethod
    def execute(self, statement: str, parameters: Sequence[Any]) -> list[Any]:
        """Execute it in a session of its own, and return the rows, if any."""

    @abstractmethod
    def make_due(self) -> None:
        """Make events due now, except those whose rows are locked."""

    @abstractmethod
    def idle(self, seconds: float) -> list[Any]:
        """Sessions that have done nothing in their transaction for longer than that."""

    @abstractmethod
    def open(self, seconds: float = 0) -> list[Any]:
        """Sessions whose transaction has been open for longer than that."""

    def query(self, statement: str, *parameters: Any) -> list[Any]:
        """Return the rows, as soon as the server is there.

        A fault that was meant for somebody who was stopped can strike late.
        """
        return self.as_soon_as_it_is_there(lambda: self.execute(statement, parameters))

    def as_soon_as_it_is_there(self, ask: Callable[[], T]) -> T:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return ask()
            except self.lost:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)


class Session(ABC):
    """What the server does to the session of a process under test, from another one."""

    def __init__(self, connection: Any) -> None:
        """Take Django's connection, which must be open."""
        self.connection = connection

    @abstractmethod
    def end(self) -> None:
        """Let the server end it."""

    @abstractmethod
    def lose(self) -> Exception:
        """The driver's error that an answer was lost."""

    @abstractmethod
    def cancel(self) -> None:
        """Let the server cancel a statement that this session is executing.

        Raises:
            Error: Django's; that it was cancelled.
        """

    def alter(self) -> None:
        """Let another session alter our tables, for which it waits in a queue."""
        raise NotImplementedError

    def time_out(self) -> None:
        """Wait in vain for a row that another session has locked; swallow the error."""
        raise NotImplementedError

    def be_outrun(self) -> None:
        """Write to a row that has changed since it was read; swallow the error."""
        raise NotImplementedError


def started(name: str) -> AbstractContextManager[Database]:
    """Run a server of that kind, as durable as a kill of its process demands."""
    running: AbstractContextManager[Database] = _module(name).started()
    return running


def session_of(connection: Any) -> Session:
    # A node's sessions are those of any MariaDB.
    name = MARIADB if connection.vendor == "mysql" else POSTGRESQL
    session: Session = _module(name).ServerSession(connection)
    return session


def left_out(name: str) -> dict[str, str]:
    """What makes no sense on this database, by name, and why."""
    found: dict[str, str] = _module(name).LEFT_OUT
    return found


def _module(name: str) -> Any:
    # Only the one that is asked for, since the other's driver may not be installed.
    return import_module(f"tests.faults.{name}")
