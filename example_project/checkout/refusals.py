"""Why an order or a refund is not made, in words for the customer."""

from __future__ import annotations

__all__ = [
    "AlreadyRefunded",
    "CardDeclined",
    "CartAlreadyOrdered",
    "CartChanged",
    "CartEmpty",
    "CheckoutUnderway",
    "ProviderUnavailable",
    "RefundUnderway",
    "Refusal",
]


class Refusal(Exception):
    """The shop says no. Views *return* it as an answer, and so it is kept.

    Raised out of a view it would be rolled back and the key released, and a repeat would
    ask the bank again.
    """

    status: int
    code: str
    detail: str

    def as_json(self) -> dict[str, str]:
        return {"code": self.code, "detail": self.detail}


class CartEmpty(Refusal):
    status = 409
    code = "cart-empty"
    detail = "There is nothing in this cart."


class CartAlreadyOrdered(Refusal):
    status = 409
    code = "cart-already-ordered"
    detail = "This cart has been ordered and paid."


class CartChanged(Refusal):
    status = 409
    code = "cart-changed"
    detail = "The cart has changed since you saw it. Please look at the new amount."


class CheckoutUnderway(Refusal):
    status = 409
    code = "checkout-underway"
    detail = "Another request is paying for this cart. Please send that one again."


class CardDeclined(Refusal):
    status = 402
    code = "card-declined"
    detail = "The bank declined the card. Please try another one."


class AlreadyRefunded(Refusal):
    status = 409
    code = "already-refunded"
    detail = "This order has been refunded."


class RefundUnderway(Refusal):
    status = 409
    code = "refund-underway"
    detail = "Another request is refunding this order. Please send that one again."


class ProviderUnavailable(Refusal):
    """From 500 up nothing is kept: the retry asks the provider again, with its key."""

    status = 503
    code = "payment-unavailable"
    detail = "The payment could not be confirmed. Please send the same request again."
