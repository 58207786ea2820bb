"""REST framework's test client, with keys. Needs the extra ``drf``."""

from __future__ import annotations

from rest_framework.test import APIClient

from .clients import KeyMixin

__all__ = ["IdempotentAPIClient"]


class IdempotentAPIClient(KeyMixin, APIClient):
    """``APIClient``; each unsafe request has a fresh key unless one is given.

    A key in ``credentials()`` goes with each request, as its other headers do.
    """
