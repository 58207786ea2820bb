"""Every placement under its name."""

from django.urls import path

from . import ninja_views, plain_views, rest_views

PLACEMENTS = [
    *plain_views.PLACEMENTS,
    *rest_views.PLACEMENTS,
    *ninja_views.PLACEMENTS,
]
urlpatterns = [path(each.path.lstrip("/"), each.view) for each in PLACEMENTS]
