"""The shop, with all its views imported before the server forks its many workers."""

from __future__ import annotations

from importlib import import_module

from django.conf import settings
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
import_module(settings.ROOT_URLCONF)
