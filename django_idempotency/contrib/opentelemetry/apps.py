from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class OpenTelemetryConfig(AppConfig):
    name = "django_idempotency.contrib.opentelemetry"
    label = "idempotency_opentelemetry"
    verbose_name = _("Idempotency: OpenTelemetry")

    def ready(self) -> None:
        from .metrics import install

        install()
