"""The admin on a real server, under a policy that allows no inline style or script."""

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings as in_use
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client
from selenium.webdriver.remote.webdriver import WebDriver

from tests.browser.front import shop

urlpatterns = shop.urlpatterns

POLICY = "default-src 'self'; img-src 'self' data:"
FRONT = "/admin/django_idempotency/"


def with_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Content-Security-Policy"] = POLICY
        return response

    return middleware


@pytest.fixture
def served(
    request: pytest.FixtureRequest, settings: Any, transactional_db: None
) -> str:
    settings.MIDDLEWARE = [f"{__name__}.with_policy", *settings.MIDDLEWARE]
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django.contrib.staticfiles"]
    settings.ROOT_URLCONF = __name__
    return str(request.getfixturevalue("live_server").url)


@pytest.fixture
def staff(served: str, browser: WebDriver) -> WebDriver:
    """A browser in which a superuser is signed in."""
    user = User.objects.create_superuser("boss")
    client = Client()
    client.force_login(user)
    browser.get(f"{served}/static/django_idempotency/front.css")
    name = in_use.SESSION_COOKIE_NAME
    browser.add_cookie({"name": name, "value": client.cookies[name].value})
    return browser
