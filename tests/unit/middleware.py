"""Middleware of a project, as the settings of a test name it."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.locale import LocaleMiddleware


class OwnLocaleMiddleware(LocaleMiddleware):
    """A project's own, as many have it."""


def passing(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    return get_response
