"""The protected addresses: plain views, the same as two APIs, and webhooks."""

from __future__ import annotations

from django.urls import include, path
from rest_framework.routers import SimpleRouter

from . import api, operations, views, webhooks

router = SimpleRouter()
router.register("orders", api.OrderViewSet, basename="order")

urlpatterns = [
    path("carts/", views.carts, name="carts"),
    path("checkout/", views.checkout, name="checkout"),
    path("orders/<int:order_id>/refund/", views.refund, name="refund"),
    path("leased/checkout/", views.leased_checkout, name="leased-checkout"),
    path(
        "leased/orders/<int:order_id>/refund/",
        views.leased_refund,
        name="leased-refund",
    ),
    path("account/email/", views.change_email, name="change-email"),
    path("api/", include(router.urls)),
    path("operations/", operations.api.urls),
    path("webhooks/payments/", webhooks.PaymentEvents.as_view()),
    path("webhooks/direct-debits/", webhooks.DirectDebitEvents.as_view()),
    path("webhooks/bookkeeping/", webhooks.bookkeeping),
    path("api/webhooks/payments/", webhooks.PaymentEventsAPI.as_view()),
    path("api/webhooks/direct-debits/", webhooks.DirectDebitEventsAPI.as_view()),
]
