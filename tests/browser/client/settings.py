"""Settings of the site that the browsers visit: the tests' own, and static files."""

from __future__ import annotations

from pathlib import Path

from tests.settings import *  # noqa: F403 - all of them
from tests.settings import ALLOWED_HOSTS, INSTALLED_APPS, MIDDLEWARE, TEMPLATES

HERE = Path(__file__).parent

ROOT_URLCONF = "tests.browser.client.shop"
INSTALLED_APPS = [*INSTALLED_APPS, "django.contrib.staticfiles"]
ALLOWED_HOSTS = [*ALLOWED_HOSTS, "shop.test"]
MIDDLEWARE = [
    "tests.browser.client.shop.strict_csp",
    "tests.browser.client.shop.fresh_content_types",
    *MIDDLEWARE,
    "tests.browser.client.shop.gate_before_the_admin",
]
TEMPLATES = [{**TEMPLATES[0], "DIRS": [HERE / "templates"]}]
STATIC_URL = "/static/"
STATICFILES_DIRS = [HERE / "static"]
LOGIN_URL = "/login/"
