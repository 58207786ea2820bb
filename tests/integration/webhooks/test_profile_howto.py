"""The how-to "Write a webhook profile", with its code executed in order."""

import hashlib
import hmac
import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import path

from django_idempotency.webhooks import Profile
from django_idempotency.webhooks.deliveries import Rejected, Verified, Verifier
from tests.support.deliveries import Sent, deliver
from tests.testapp.models import Order
from tests.unit.webhooks.deliveries import delivery

HOWTO = Path(__file__).resolve().parents[3] / "docs" / "howto"
PAGE = (HOWTO / "write-a-webhook-profile.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def namespace(settings: Any) -> dict[str, Any]:
    """What the page has made, and its receiver in the URLconf."""
    namespace: dict[str, Any] = {"Order": Order, "__name__": "shop.webhooks"}
    for block in BLOCKS:
        exec(block, namespace)  # noqa: S102 - our own page
    settings.ROOT_URLCONF = (path("webhooks/acme/", namespace["acme_events"]),)
    return namespace


@pytest.mark.django_db(transaction=True)
def test_page_works_as_it_is_written(client: Client, namespace: dict[str, Any]) -> None:
    namespace["test_delivery_of_acme_is_handled_once"](client)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("namespace")
def test_page_s_own_test_fails_under_another_secret(client: Client) -> None:
    signed = hmac.new(b"another", b"{}", hashlib.sha256).hexdigest()
    sent = Sent(b"{}", {"X-Acme-Signature": f"sha256={signed}"})

    assert deliver("/webhooks/acme/", sent, client).status_code == 401


def test_profile_has_ten_lines() -> None:
    (profile,) = re.findall(r"^ACME = Profile\(.*?^\)$", BLOCKS[0], re.M | re.S)

    assert len(profile.splitlines()) <= 10


def test_parts_of_an_id_are_found(namespace: dict[str, Any]) -> None:
    profile = namespace["ACME_PAYMENTS"]
    assert isinstance(profile, Profile)
    content = {"payment": {"id": "p-1", "status": "paid"}}

    assert [each.id for each in profile.events(delivery(), content)] == ["p-1:paid"]


def test_own_verifier_tells_tokens_apart(namespace: dict[str, Any]) -> None:
    verifier: Verifier = namespace["TokenVerifier"]()
    verdicts = [
        verifier.verify(delivery(headers={"X-Acme-Token": token}), ("new", "old", ""))
        for token in ("old", "", "é")
    ]

    assert verdicts == [Verified(1), Rejected("token"), Rejected("token")]
