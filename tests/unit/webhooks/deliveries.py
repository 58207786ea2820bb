"""Deliveries for the tests of verifiers and profiles."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.datastructures import CaseInsensitiveMapping

from django_idempotency.webhooks.deliveries import Delivery

NOW = 1_700_000_000


def delivery(
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    url: str = "https://shop.example/hook/",
    received_at: float = NOW,
) -> Delivery:
    return Delivery(
        body=body,
        headers=CaseInsensitiveMapping(headers or {}),
        url=url,
        received_at=received_at,
    )
