"""``path("idempotency/health/", include("django_idempotency.health.urls"))``"""

from __future__ import annotations

from django.urls import path

from .views import health

urlpatterns = [path("", health, name="idempotency_health")]
