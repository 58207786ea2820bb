"""Settings of a shop that is measured."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

ROOT_URLCONF = "tests.concurrency.measured_shop"
IDEMPOTENCY_HEALTH_TOKEN = "a-token-of-the-scraper"  # noqa: S105 - of these tests
INSTALLED_APPS = [
    *INSTALLED_APPS,
    "django_idempotency.contrib.opentelemetry",
    "django_idempotency.contrib.prometheus",
]
