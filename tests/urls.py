"""The URLconf of the tests: empty; a test that needs views brings its own with
``pytest.mark.urls``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.urls import URLPattern, URLResolver

urlpatterns: list[URLPattern | URLResolver] = []
