"""The three ways to check out and to report, as browsers and providers see them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from .browsers import Answer, Browser

__all__ = ["ENDPOINTS", "VIEW", "Endpoint"]

GOOD_CARD = "pm_card_visa"
DECLINED_CARD = "pm_card_chargeCustomerFail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    name: str
    protected: bool
    checkout_path: str
    refund_path: str
    payments_webhook: str
    direct_debits_webhook: str
    bookkeeping_webhook: str
    is_json: bool = False

    def checkout(
        self,
        browser: Browser,
        cart: int,
        key: str,
        *,
        card: str = GOOD_CARD,
        headers: Mapping[str, str] | None = None,
        patience_seconds: float = 30,
    ) -> Answer | None:
        """Pay for a cart. The label goes to all three; the naive one ignores it."""
        fields = {"cart": cart, "payment_method": card}
        return browser.post(
            self.checkout_path,
            data=None if self.is_json else fields,
            json=fields if self.is_json else None,
            headers={"Idempotency-Key": key, **(headers or {})},
            patience_seconds=patience_seconds,
        )

    def refund(self, browser: Browser, order: int, key: str) -> Answer | None:
        path = self.refund_path.format(order=order)
        return browser.post(path, headers={"Idempotency-Key": key})

    def order_in(self, answer: Answer) -> int:
        """The order that the answer to a checkout names."""
        return int(json.loads(answer.body)["id" if self.is_json else "order"])


ENDPOINTS = (
    Endpoint(
        name="naive",
        protected=False,
        checkout_path="/naive/checkout/",
        refund_path="/naive/orders/{order}/refund/",
        payments_webhook="/naive/webhooks/payments/",
        direct_debits_webhook="/naive/webhooks/direct-debits/",
        bookkeeping_webhook="/naive/webhooks/bookkeeping/",
    ),
    Endpoint(
        name="view",
        protected=True,
        checkout_path="/checkout/",
        refund_path="/orders/{order}/refund/",
        payments_webhook="/webhooks/payments/",
        direct_debits_webhook="/webhooks/direct-debits/",
        bookkeeping_webhook="/webhooks/bookkeeping/",
    ),
    Endpoint(
        name="drf",
        protected=True,
        checkout_path="/api/orders/",
        refund_path="/api/orders/{order}/refund/",
        payments_webhook="/api/webhooks/payments/",
        direct_debits_webhook="/api/webhooks/direct-debits/",
        bookkeeping_webhook="/webhooks/bookkeeping/",
        is_json=True,
    ),
)
VIEW = ENDPOINTS[1]
