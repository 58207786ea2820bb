"""The how-to "Write a webhook profile", with its code executed in order."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import path

from django_idempotency.webhooks import Profile
from django_idempotency.webhooks.deliveries import Delivery, Rejected, Verified
from tests.testapp.models import Order

HOWTO = Path(__file__).resolve().parents[3] / "docs" / "howto"
PAGE = (HOWTO / "write-a-webhook-profile.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def _urls(namespace: dict[str, Any]) -> tuple[Any, ...]:
    """Return a URLconf."""
    return (path("webhooks/acme/", namespace["acme_events"]),)


def _namespace() -> dict[str, Any]:
    namespace: dict[str, Any] = {"Order": Order, "__name__": "shop.webhooks"}
    for block in BLOCKS:
        exec(block, namespace)  # noqa: S102 - our own page
    return namespace


@pytest.mark.django_db(transaction=True)
def test_page_works_as_it_is_written(client: Client, settings: Any) -> None:
    namespace = _namespace()
    settings.ROOT_URLCONF = _urls(namespace)

    namespace["test_delivery_of_acme_is_handled_once"](client)


@pytest.mark.django_db(transaction=True)
def test_page_s_own_test_fails_under_another_secret(
    client: Client, settings: Any
) -> None:
    namespace = _namespace()
    settings.ROOT_URLCONF = _urls(namespace)
    signed = hmac.new(b"another", b"{}", hashlib.sha256).hexdigest()

    answer = client.post(
        "/webhooks/acme/",
        b"{}",
        content_type="application/json",
        headers={"X-Acme-Signature": f"sha256={signed}"},
    )

    assert answer.status_code == 401


def test_profile_has_ten_lines() -> None:
    (profile,) = re.findall(r"^ACME = Profile\(.*?^\)$", BLOCKS[0], re.M | re.S)

    assert len(profile.splitlines()) <= 10


def test_parts_of_an_id_are_found() -> None:
    profile = _namespace()["ACME_PAYMENTS"]
    assert isinstance(profile, Profile)
    sent = Delivery(body=b"", headers={}, url="", received_at=0)

    content = {"payment": {"id": "p-1", "status": "paid"}}

    assert [each.id for each in profile.events(sent, content)] == ["p-1:paid"]


def test_own_verifier_tells_tokens_apart() -> None:
    verifier = _namespace()["TokenVerifier"]()

    def verdict(token: str) -> Verified | Rejected:
        sent = Delivery(
            body=b"", headers={"X-Acme-Token": token}, url="", received_at=0
        )
        result = verifier.verify(sent, ("new", "old", ""))
        assert isinstance(result, Verified | Rejected)
        return result

    assert [verdict("old"), verdict(""), verdict("é")] == [
        Verified(1),
        Rejected("token"),
        Rejected("token"),
    ]
