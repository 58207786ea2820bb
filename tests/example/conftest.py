"""Customers of the example shop, in this process."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import django
import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.core.mail import EmailMessage
from django.test import Client
from django.test.client import MULTIPART_CONTENT

from example_project.checkout.models import Cart
from tests.example.deliveries import OLD_SECRET, SECRET
from tests.example.factories import CartFactory
from tests.example.providers import GOOD_CARD, RecordingProvider, paying_by
from tests.factories import UserFactory

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

# Rows that test the package alone don't install the demo's servers.
collect_ignore_glob = [
    f"{each}/test_*.py" for each in ("demo", "kills") if not find_spec("localstripe")
]


@pytest.fixture
def provider() -> Iterator[RecordingProvider]:
    with paying_by(RecordingProvider) as provider:
        yield provider


@pytest.fixture(autouse=True)
def mailbox(settings: Any) -> Iterator[list[EmailMessage]]:
    """What was mailed."""
    backend = "django.core.mail.backends.locmem.EmailBackend"
    if django.VERSION >= (6, 1):
        settings.MAILERS = {"default": {"BACKEND": backend}}
    else:
        settings.EMAIL_BACKEND = backend
    mail.outbox = []
    yield mail.outbox
    mail.outbox = []


@pytest.fixture
def webhook_secrets(settings: Any) -> None:
    settings.STRIPE_WEBHOOK_SECRETS = [SECRET, OLD_SECRET]
    settings.GOCARDLESS_WEBHOOK_SECRETS = [SECRET]


@dataclass(frozen=True, kw_only=True)
class Customer:
    """A signed-in customer at one of the shop's doors."""

    user: User
    http: Client
    checkout_path: str
    refund_path: str
    sends_json: bool

    def new_cart(self, *, quantity: int = 2, price_minor: int = 1250) -> Cart:
        if not quantity:
            return CartFactory.create(user=self.user, item=None)
        return CartFactory.create(
            user=self.user,
            item__quantity=quantity,
            item__product__price_minor=price_minor,
        )

    def pay(
        self,
        cart: Cart,
        *,
        key: str | None = None,
        card: str = GOOD_CARD,
        **headers: str,
    ) -> Answer:
        fields = {"cart": cart.pk, "payment_method": card}
        return self._post(self.checkout_path, fields, key, **headers)

    def refund(self, order: int, *, key: str | None = None) -> Answer:
        return self._post(self.refund_path.format(order=order), {}, key)

    def order_in(self, answer: Answer) -> int:
        return int(json.loads(answer.content)["id" if self.sends_json else "order"])

    def _post(
        self, path: str, fields: dict[str, Any], key: str | None, **headers: str
    ) -> Answer:
        return self.http.post(
            path,
            fields,
            content_type="application/json" if self.sends_json else MULTIPART_CONTENT,
            headers={"Idempotency-Key": key or str(uuid.uuid4()), **headers},
        )


@pytest.fixture(params=["view", "drf", "ninja", "leased"])
def door(request: pytest.FixtureRequest) -> str:
    """By which of its doors, all protected, the shop is entered."""
    name: str = request.param
    return name


@pytest.fixture
def ada(door: str, db: None, provider: RecordingProvider) -> Customer:
    return new_customer("ada", door)


@pytest.fixture
def grace(door: str, db: None, provider: RecordingProvider) -> Customer:
    return new_customer("grace", door)


def new_customer(name: str, door: str) -> Customer:
    user = UserFactory.create(username=name)
    http = Client(raise_request_exception=False)
    http.force_login(user)
    prefix = {
        "view": "",
        "drf": "/api",
        "ninja": "/operations",
        "leased": "/leased",
        "naive": "/naive",
    }[door]
    is_api = door in ("drf", "ninja")
    return Customer(
        user=user,
        http=http,
        checkout_path=f"{prefix}/orders/" if is_api else f"{prefix}/checkout/",
        refund_path=f"{prefix}/orders/{{order}}/refund/",
        sends_json=is_api,
    )
