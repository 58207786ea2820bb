"""What happens, as metrics of Prometheus: add this app to INSTALLED_APPS."""

try:
    import prometheus_client  # noqa: F401
except ImportError as error:
    raise ImportError(
        "django_idempotency.contrib.prometheus needs prometheus-client: "
        "pip install django-idempotency[prometheus]"
    ) from error
