"""Settings of the site that the browsers visit: the tests' own, and static files."""

from pathlib import Path

from tests.settings import *  # noqa: F403 - all of them
from tests.settings import ALLOWED_HOSTS, INSTALLED_APPS, MIDDLEWARE, TEMPLATES

HERE = Path(__file__).parent

ROOT_URLCONF = "tests.browser.client.shop"
INSTALLED_APPS = [*INSTALLED_APPS, "django.contrib.staticfiles"]
ALLOWED_HOSTS = [*ALLOWED_HOSTS, "shop.test"]
MIDDLEWARE = [
    "django_idempotency.middleware.OutcomeMiddleware",
    "tests.browser.client.shop.strict_csp",
    *MIDDLEWARE,
]
TEMPLATES = [{**TEMPLATES[0], "DIRS": [HERE / "templates"]}]
STATIC_URL = "/static/"
STATICFILES_DIRS = [HERE / "static"]
LOGIN_URL = "/login/"
