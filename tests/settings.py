"""Settings of the test project.

They are self-contained on purpose: the package must be testable without the example
project's choices. ``DATABASE_URL`` is always set when this module is read, either by
the caller or by :mod:`tests.support.embedded_postgresql`.
"""

import sys
from importlib.util import find_spec

import environ

from tests.support import pgbouncer

env = environ.Env()

# Nothing is written by pytest itself; and a server of one test must not write down what
# it has counted when the next test has begun.
IDEMPOTENCY_STATISTICS = "pytest" in sys.modules or env.bool("TESTS_COUNT", False)

# `tox run -e portable`: on one server, which takes this SQL as well as many do.
if kind := env.str("TESTS_DISTRIBUTED", ""):
    IDEMPOTENCY_DISTRIBUTED = {"default": kind}

SECRET_KEY = "tests-only"  # noqa: S105 - nothing outside the tests is signed with it
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"

# The fallback is what mypy's Django plugin and sphinx see: they read the settings but
# never connect.
DATABASES = {"default": env.db("DATABASE_URL", default="sqlite://:memory:")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # A file, because a shared in-memory database locks whole tables and ignores the
    # busy timeout: threads would see errors that no deployment has.
    DATABASES["default"]["TEST"] = {"NAME": f"{DATABASES['default']['NAME']}.test"}
if pgbouncer.is_between():
    DATABASES["default"] |= pgbouncer.DATABASE_SETTINGS

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django_idempotency",
    "tests.testapp",
]
# With their models, for the tests of the example project and for mypy. The package must
# be testable without them.
if find_spec("example_project") is not None:
    INSTALLED_APPS += [
        "example_project.checkout",
        "example_project.theatre.naive",
        "example_project.shop",
        "example_project.theatre.lab",
    ]
# DRF is an extra: what doesn't need it must be testable without it.
if find_spec("rest_framework") is not None:
    INSTALLED_APPS.append("rest_framework")
if find_spec("drf_spectacular") is not None:
    INSTALLED_APPS.append("drf_spectacular")
    REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
