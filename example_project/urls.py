"""The shop's addresses."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [
    path("", include("example_project.checkout.urls")),
    path("naive/", include("example_project.naive.urls")),
    path("accounts/", include("django.contrib.auth.urls")),
]
