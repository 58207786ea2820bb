"""django-ninja: each unsafe operation runs once per key.

``@idempotent`` stands below ``@api.post``.
"""

try:
    from .operations import idempotent
except ImportError as error:
    if not (error.name or "").startswith("ninja"):
        raise
    raise ImportError(
        "django_idempotency.contrib.ninja needs django-ninja: "
        "pip install django-idempotency[ninja]"
    ) from error

__all__ = ["idempotent"]
