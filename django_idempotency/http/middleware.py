"""Which of Django's middleware the project has."""

from __future__ import annotations

from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string


def has_middleware(kind: type) -> bool:
    """Whether it, or a subclass of it, is among the project's MIDDLEWARE."""
    return _is_among(tuple(settings.MIDDLEWARE), kind)


@cache
def _is_among(paths: tuple[str, ...], kind: type) -> bool:
    middleware = [import_string(path) for path in paths]
    return any(isinstance(each, type) and issubclass(each, kind) for each in middleware)
