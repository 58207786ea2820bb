"""The protected addresses: plain views, and the same as an API."""

from __future__ import annotations

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from . import api, views

router = SimpleRouter()
router.register("orders", api.OrderViewSet, basename="order")

urlpatterns = [
    path("carts/", views.carts, name="carts"),
    path("checkout/", views.checkout, name="checkout"),
    path("orders/<int:order_id>/refund/", views.refund, name="refund"),
    path("api/", include(router.urls)),
]
