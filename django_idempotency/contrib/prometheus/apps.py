from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PrometheusConfig(AppConfig):
    name = "django_idempotency.contrib.prometheus"
    label = "idempotency_prometheus"
    verbose_name = _("Idempotency: metrics for Prometheus")

    def ready(self) -> None:
        from .metrics import install

        install()
