"""From an HttpRequest to an operation, and from an outcome to an HttpResponse.

The names that views need are here; the rest of the folder is internal.
"""

from django_idempotency.engine.idempotency import Idempotency

from .requests import IdempotentRequest, Identified, principal_of

__all__ = ["Idempotency", "IdempotentRequest", "Identified", "principal_of"]
