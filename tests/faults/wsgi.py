"""The shop for gunicorn."""

from __future__ import annotations

from importlib import import_module

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
import_module("tests.faults.shop")  # once, before the workers are forked
