"""Settings of the server and worker processes that the faults are for."""

from tests.faults import conditions
from tests.settings import *  # noqa: F403
from tests.settings import DATABASES as _DATABASES

ROOT_URLCONF = "tests.faults.shop"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django_idempotency",
    "rest_framework",
    "tests.testapp",
]
REST_FRAMEWORK = {}
MIDDLEWARE = ["tests.faults.points.serve_with_faults"]

if _DATABASES["default"]["ENGINE"] == "django.db.backends.mysql":
    from tests.faults.mariadb import options

    _OPTIONS = options(conditions.IDLE_SECONDS)
else:
    _OPTIONS = {
        "options": f"-c idle_in_transaction_session_timeout={conditions.IDLE_SECONDS}s",
        "connect_timeout": 5,
    }

DATABASES = {
    "default": {
        **_DATABASES["default"],
        # Connections outlive requests, and so may be dead when the next one comes.
        "CONN_MAX_AGE": 60,
        "OPTIONS": _OPTIONS,
    }
}

IDEMPOTENCY_WAIT = conditions.WAIT
