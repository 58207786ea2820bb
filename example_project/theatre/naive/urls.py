from __future__ import annotations

from django.urls import path

from . import views, webhooks

app_name = "naive"

urlpatterns = [
    path("checkout/", views.checkout, name="checkout"),
    path("orders/<int:order_id>/refund/", views.refund, name="refund"),
    path("webhooks/payments/", webhooks.payments),
    path("webhooks/direct-debits/", webhooks.direct_debits),
    path("webhooks/bookkeeping/", webhooks.bookkeeping),
]
