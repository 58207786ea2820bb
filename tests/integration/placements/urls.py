"""Every placement under its name; REST framework's only where that is installed."""

from __future__ import annotations

from importlib.util import find_spec

from django.urls import path

from . import class_views, function_views

PLACEMENTS = [*function_views.PLACEMENTS, *class_views.PLACEMENTS]
if find_spec("rest_framework") is not None:
    from . import rest_views

    PLACEMENTS += rest_views.PLACEMENTS

urlpatterns = [path(each.path.lstrip("/"), each.view) for each in PLACEMENTS]
