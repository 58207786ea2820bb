"""Server processes of their own, with the shop's views, on the test database.

As a program: serve the shop; the first line of the output is the port. With threads, or
with the argument ``one-by-one`` as a worker that has none.
"""

import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings
from django.core.servers.basehttp import (
    ThreadedWSGIServer,
    WSGIRequestHandler,
    WSGIServer,
)
from django.core.wsgi import get_wsgi_application
from django.db import connection

from tests.support.programs import Process, running

SIGNAL_VARIABLE = "SHOP_SENDS_ITSELF"
"""Environment variable: the signal that a server process sends itself in its view."""


@dataclass(frozen=True, slots=True)
class Server:
    process: Process
    address: str


@contextlib.contextmanager
def server(
    *arguments: str,
    session_options: str = "",
    sends_itself: signal.Signals | None = None,
) -> Iterator[Server]:
    """Run a server process until the end, or until it is killed.

    `arguments` are those of the program.
    `session_options` are PostgreSQL's, as in ``-c idle_session_timeout=1s``;
    `sends_itself` is the signal that its views end in, just before they return.
    """
    more = {"PGOPTIONS": session_options}
    if sends_itself is not None:
        more[SIGNAL_VARIABLE] = sends_itself.name
    with running("-m", "tests.concurrency.servers", *arguments, **more) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, "the server did not start"
        yield Server(process, f"http://127.0.0.1:{port}")


def sessions_in_a_transaction() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
        )
        count: int = cursor.fetchone()[0]
        return count


def main() -> None:
    settings.ROOT_URLCONF = "tests.concurrency.shop"
    one_by_one = sys.argv[1:] == ["one-by-one"]
    server_class = WSGIServer if one_by_one else ThreadedWSGIServer
    server = server_class(("127.0.0.1", 0), WSGIRequestHandler)
    server.set_app(get_wsgi_application())
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
