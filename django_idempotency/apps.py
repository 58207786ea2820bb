from __future__ import annotations

from django.apps import AppConfig, apps
from django.utils.translation import gettext_lazy as _


class IdempotencyConfig(AppConfig):
    name = "django_idempotency"
    verbose_name = _("Idempotency")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks  # noqa: F401 - registers them
        from .conf import conf
        from .engine import counting, outside_calls

        if conf.IDEMPOTENCY_OUTSIDE_CALLS != "ignore":
            outside_calls.install()
        if conf.IDEMPOTENCY_STATISTICS:
            counting.install()
        if apps.is_installed("drf_spectacular"):
            from .contrib import spectacular  # noqa: F401 - registers its extension
