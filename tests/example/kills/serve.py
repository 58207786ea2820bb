"""Program: serve the example shop on an inherited socket, each request in a process.

    python -m tests.example.kills.serve FD [URLCONF]

The URLconf's module has the middleware that does harm, as `Doom`. It works on the test database, where the tests count, and with the shop's own middleware.
"""

import os
import socket
import sys
from datetime import timedelta
from importlib import import_module

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application

from example_project import settings as shop
from tests.support.forking_server import ForkingServer

LEASE = timedelta(seconds=4)
"""Above the slowest retry, and no longer than the tests have to wait once each."""

FOLDER_VARIABLE = "KILLS_MAIL_FOLDER"


def main() -> None:
    watched = "tests.example.kills.watched"
    urlconf = sys.argv[2] if len(sys.argv) > 2 else watched
    settings.ROOT_URLCONF = urlconf
    settings.MIDDLEWARE = [f"{urlconf}.Doom", *shop.MIDDLEWARE]
    settings.SECURE_CSP = shop.SECURE_CSP
    settings.SHOP_LEASE = LEASE
    settings.PAYMENT_PROVIDER = f"{watched}.WatchedPayments"
    settings.STRIPE_API_BASE = shop.STRIPE_API_BASE
    settings.STRIPE_API_KEY = shop.STRIPE_API_KEY
    _mail_to(os.environ[FOLDER_VARIABLE], f"{watched}.WatchedMail")
    application = get_wsgi_application()
    # Before the server forks: else each process would import them for itself.
    import_module(urlconf)
    import_module("example_project.checkout.payments").payment_provider()
    server = ForkingServer(socket.socket(fileno=int(sys.argv[1])))
    server.set_app(application)
    server.serve_forever()


def _mail_to(folder: str, backend: str) -> None:
    if django.VERSION >= (6, 1):
        options = {"file_path": folder}
        settings.MAILERS = {"default": {"BACKEND": backend, "OPTIONS": options}}
    else:
        settings.EMAIL_BACKEND, settings.EMAIL_FILE_PATH = backend, folder


if __name__ == "__main__":
    main()
