"""Stripe's paths, which end without a slash."""

from __future__ import annotations

from django.urls import path

from . import views

urlpatterns = [
    path("v1/payment_intents", views.create),
    path("v1/payment_intents/<str:payment>", views.retrieve),
    path("v1/refunds", views.create),
    path("v1/events", views.events),
    path("v1/events/<str:event>/retry", views.deliver_again),
]
