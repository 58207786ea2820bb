"""The addresses of the pages, apart from those of the checkout's views."""

from __future__ import annotations

from django.urls import path

from . import views

app_name = "shop"

urlpatterns = [
    path("", views.products, name="products"),
]
