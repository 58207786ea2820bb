"""Those of the tests, with tables in the memory of the process that tries inputs."""

from tests.settings import *  # noqa: F403

ROOT_URLCONF = "tests.fuzz.site"
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
}
MIDDLEWARE = [
    "django_idempotency.middleware.OutcomeMiddleware",
    "django.middleware.common.CommonMiddleware",
]
IDEMPOTENCY_STATISTICS = False
