"""Settings of the admin that the browsers visit: strict about where things are from."""

from tests.settings import *  # noqa: F403 - all of them
from tests.settings import INSTALLED_APPS, MIDDLEWARE

ROOT_URLCONF = "tests.browser.admin.urls"
INSTALLED_APPS = [*INSTALLED_APPS, "django.contrib.staticfiles"]
MIDDLEWARE = ["tests.browser.admin.urls.strict_csp", *MIDDLEWARE]
STATIC_URL = "/static/"
