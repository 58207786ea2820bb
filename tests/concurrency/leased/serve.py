"""Program: serve the checkout; the first line of its output is the port.

Each request is served by a process of its own, a child of this one, so that it can be
killed or stopped without the others.
"""

from __future__ import annotations

import os
import socket
import socketserver
import sys
import time
from datetime import datetime, timedelta

from django.conf import settings
from django.core.servers.basehttp import WSGIRequestHandler, WSGIServer
from django.core.wsgi import get_wsgi_application
from django.utils import timezone

CLOCK_VARIABLE = "CHECKOUT_CLOCK_SECONDS"


class ForkingServer(socketserver.ForkingMixIn, WSGIServer):
    request_queue_size = 128
    max_children = 200


class InheritingServer(ForkingServer):
    """Serves a socket that somebody else has opened."""

    def __init__(self, listener: socket.socket) -> None:
        address = listener.getsockname()
        super().__init__(address, WSGIRequestHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = address
        self.setup_environ()


def main() -> None:
    settings.ROOT_URLCONF = "tests.concurrency.leased.checkout"
    settings.MIDDLEWARE = ["tests.concurrency.leased.checkout.Doom"]
    _set_the_clock(float(os.environ.get(CLOCK_VARIABLE, "0")))
    server = ForkingServer(("127.0.0.1", 0), WSGIRequestHandler)
    server.set_app(get_wsgi_application())
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


def _set_the_clock(seconds: float) -> None:
    """Be so much fast, or slow: the clock of this process, not that of the database."""
    right_time, right_now = time.time, timezone.now

    def wrong_time() -> float:
        return right_time() + seconds

    def wrong_now() -> datetime:
        return right_now() + timedelta(seconds=seconds)

    time.time = wrong_time
    timezone.now = wrong_now


if __name__ == "__main__":
    main()
