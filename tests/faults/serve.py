"""The shop for gunicorn, and as a program that serves it on an inherited socket.

    python -m tests.faults.serve FD

There each request has a process of its own, so that a fault for one hits nobody else.
"""

import socket
import sys
from importlib import import_module
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application

from tests.support.forking_server import ForkingServer


def wsgi() -> Any:
    application = get_wsgi_application()
    import_module("tests.faults.shop")  # once, before the workers are forked
    return application


def asgi() -> Any:
    # Each request has a thread of its own, with which a connection that it kept would
    # be lost.
    settings.DATABASES["default"]["CONN_MAX_AGE"] = 0
    application = get_asgi_application()
    import_module("tests.faults.shop")
    return application


def main() -> None:
    server = ForkingServer(socket.socket(fileno=int(sys.argv[1])))
    server.set_app(wsgi())
    server.serve_forever()


if __name__ == "__main__":
    main()
