"""Program: serve the shop; the first line of its output is the port.

With threads, or with the argument ``one-by-one`` as a worker that has none.
"""

from __future__ import annotations

import contextlib
import signal
import sys

from django.conf import settings
from django.core.servers.basehttp import (
    ThreadedWSGIServer,
    WSGIRequestHandler,
    WSGIServer,
)
from django.core.wsgi import get_wsgi_application


def main() -> None:
    settings.ROOT_URLCONF = "tests.concurrency.shop"
    one_by_one = sys.argv[1:] == ["one-by-one"]
    server_class = WSGIServer if one_by_one else ThreadedWSGIServer
    server = server_class(("127.0.0.1", 0), WSGIRequestHandler)
    server.set_app(get_wsgi_application())
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    # What runs in the background may have been told to ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
