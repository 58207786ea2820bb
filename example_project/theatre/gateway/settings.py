"""Settings of the payment gateway, which shares nothing with the shop."""

from __future__ import annotations

from datetime import timedelta

import environ

env = environ.Env()

DEBUG = False
SECRET_KEY = env.str("GATEWAY_SECRET_KEY", default="only-good-for-your-own-machine")
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

ROOT_URLCONF = "example_project.theatre.gateway.urls"
WSGI_APPLICATION = "example_project.theatre.gateway.wsgi.application"

INSTALLED_APPS = ["django_idempotency"]
MIDDLEWARE: list[str] = []  # no sessions, no cookies: callers show an API key

DATABASES = {
    "default": {
        **env.db("GATEWAY_DATABASE_URL"),
        "CONN_MAX_AGE": 60,
        "OPTIONS": {
            "options": "-c idle_in_transaction_session_timeout=60s "
            "-c tcp_user_timeout=30s -c lock_timeout=10s"
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"

IDEMPOTENCY_PRINCIPAL = "example_project.theatre.gateway.api_keys.principal"
IDEMPOTENCY_PROFILE = "stripe"  # headers and refusals as its clients know them

# The server that makes the charges.
GATEWAY_BACKEND_URL = env.str("GATEWAY_BACKEND_URL")
# Where events are delivered when somebody asks for it: NAME=URL,NAME=URL.
GATEWAY_WEBHOOK_ENDPOINTS = env.dict("GATEWAY_WEBHOOK_ENDPOINTS", default={})
GATEWAY_WEBHOOK_SECRET = env.str("GATEWAY_WEBHOOK_SECRET", default="")
# How long a call takes, since it travels and banks are asked; nothing by default.
GATEWAY_LATENCY = timedelta(seconds=env.float("GATEWAY_LATENCY_SECONDS", default=0))
