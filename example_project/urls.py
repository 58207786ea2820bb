"""The shop's addresses."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.views import LoginView
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="shop:products")),
    path("shop/", include("example_project.shop.urls")),
    path("", include("example_project.checkout.urls")),
    path("accounts/login/", LoginView.as_view(redirect_authenticated_user=True)),
    path("accounts/", include("django.contrib.auth.urls")),
    path("admin/", admin.site.urls),
    # The theatre, which is not meant to be copied.
    path("naive/", include("example_project.theatre.naive.urls")),
    path("lab/", include("example_project.theatre.lab.urls")),
]
