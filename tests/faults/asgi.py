"""The shop for an ASGI server."""

from __future__ import annotations

from importlib import import_module

from django.conf import settings
from django.core.asgi import get_asgi_application

# Each request has a thread of its own, with which a connection that it kept would be
# lost.
settings.DATABASES["default"]["CONN_MAX_AGE"] = 0
application = get_asgi_application()
import_module("tests.faults.shop")  # once, before the workers are forked
