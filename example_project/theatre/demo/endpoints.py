"""The ways to check out and to report, as browsers and providers see them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .browsers import Answer, Browser

__all__ = ["DRF", "ENDPOINTS", "LEASED", "NAIVE", "VIEW", "Endpoint"]

GOOD_CARD = "pm_card_visa"
DECLINED_CARD = "pm_card_chargeCustomerFail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    name: str
    protected: bool
    checkout_path: str
    refund_path: str
    #: The function that a worker is told to call for each order.
    receipt_task: str
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
        """Pay for a cart. The label goes to all; the naive one ignores it."""
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


NAIVE = Endpoint(
    name="naive",
    protected=False,
    checkout_path="/naive/checkout/",
    refund_path="/naive/orders/{order}/refund/",
    receipt_task="example_project.theatre.naive.receipts.send_receipt",
    payments_webhook="/naive/webhooks/payments/",
    direct_debits_webhook="/naive/webhooks/direct-debits/",
    bookkeeping_webhook="/naive/webhooks/bookkeeping/",
)
VIEW = Endpoint(
    name="view",
    protected=True,
    checkout_path="/checkout/",
    refund_path="/orders/{order}/refund/",
    receipt_task="example_project.checkout.receipts.send_receipt",
    payments_webhook="/webhooks/payments/",
    direct_debits_webhook="/webhooks/direct-debits/",
    bookkeeping_webhook="/webhooks/bookkeeping/",
)
DRF = replace(
    VIEW,
    name="drf",
    checkout_path="/api/orders/",
    refund_path="/api/orders/{order}/refund/",
    payments_webhook="/api/webhooks/payments/",
    direct_debits_webhook="/api/webhooks/direct-debits/",
    is_json=True,
)
#: Its webhooks are the view's.
LEASED = replace(
    VIEW,
    name="leased",
    checkout_path="/leased/checkout/",
    refund_path="/leased/orders/{order}/refund/",
)
ENDPOINTS = (NAIVE, VIEW, DRF, LEASED)
