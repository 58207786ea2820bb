"""What happens, as metrics and attributes of OpenTelemetry: add this app to
INSTALLED_APPS."""

try:
    import opentelemetry.metrics
    import opentelemetry.trace  # noqa: F401
except ImportError as error:
    raise ImportError(
        "django_idempotency.contrib.opentelemetry needs opentelemetry-api: "
        "pip install django-idempotency[opentelemetry]"
    ) from error
