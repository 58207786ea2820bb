"""The tables of each package that a project may move away from; and, in a server, one
side of a move: the package alone, or this one, which may honour the other's keys."""

import os
from importlib.util import find_spec

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, MIDDLEWARE

OLD, SIDE = os.environ.get("MOVING_FROM", ""), os.environ.get("MOVING_SIDE", "")

INSTALLED_APPS = [
    *INSTALLED_APPS,
    *[
        each
        for each in (
            "drf_idempotency",
            "drf_idempotencykey",
            "rest_framework_idempotency_key",
        )
        if find_spec(each)
    ],
]
MIDDLEWARE = [*MIDDLEWARE]
if SIDE == "old":
    MIDDLEWARE += {
        # Its decorator can't render a Response: it stands inside the view.
        "drf-idempotency": ["drf_idempotency.middleware.IdempotencyMiddleware"],
        "djangorestframework-idempotency-key": [
            "rest_framework_idempotency_key.middleware.IdempotencyKeyMiddleware"
        ],
        "django-idempotency-key": [
            "idempotency_key.middleware.ExemptIdempotencyKeyMiddleware"
        ],
    }.get(OLD, [])
if SIDE:
    ROOT_URLCONF = f"tests.third_party.moving.{SIDE}"
if SIDE == "new" and "MOVING_BLIND" not in os.environ:
    IDEMPOTENCY_MOVING_FROM = "tests.third_party.moving.stores.old_store"

IDEMPOTENCY_KEY_LOCK_TIMEOUT = 60  # seconds
IDEMPOTENCY_KEY = {
    "STORAGE": {"CLASS": "idempotency_key.storage.CacheKeyStorage"},
    "LOCK": {"ENABLE": False},  # there is one for threads, and one in Redis
}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "moving_cache",
    }
}
