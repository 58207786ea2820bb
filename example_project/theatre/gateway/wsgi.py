"""The payment gateway for a WSGI server such as gunicorn."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault(
    "DJANGO_SETTINGS_MODULE", "example_project.theatre.gateway.settings"
)

application = get_wsgi_application()
