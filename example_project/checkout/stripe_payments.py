"""Payments through Stripe's own client."""

from __future__ import annotations

import stripe
from django.conf import settings

from .models import CURRENCY
from .refusals import CardDeclined, ProviderUnavailable

__all__ = ["StripePayments"]


class StripePayments:
    def __init__(self, *, timeout_seconds: float = 10) -> None:
        self._stripe = stripe.StripeClient(
            _setting("STRIPE_API_KEY"),
            base_addresses={"api": _setting("STRIPE_API_BASE")},
            # Our caller may hold a transaction open: it may not wait longer than this, and
            # trying again is the caller's business, whose key makes that safe.
            http_client=stripe.RequestsClient(timeout=timeout_seconds),
            max_network_retries=0,
        )

    @property
    def honours_keys(self) -> bool:
        return True

    def charge(self, *, amount_minor: int, payment_method: str, key: str) -> str:
        try:
            intent = self._stripe.v1.payment_intents.create(
                params={
                    "amount": amount_minor,
                    "currency": CURRENCY,
                    "payment_method": payment_method,
                    "confirm": True,
                    # Cards that are paid here and now; no redirect to a bank.
                    "automatic_payment_methods": {
                        "enabled": True,
                        "allow_redirects": "never",
                    },
                },
                options={"idempotency_key": key},
            )
        except stripe.CardError as error:
            raise CardDeclined from error
        except stripe.InvalidRequestError as error:
            if _is_about_the_card(error):
                raise CardDeclined from error
            raise _translated(error) from error
        except stripe.StripeError as error:
            raise _translated(error) from error
        return intent.id

    def refund(self, *, charge_id: str, key: str) -> str:
        try:
            refund = self._stripe.v1.refunds.create(
                params={"payment_intent": charge_id},
                options={"idempotency_key": key},
            )
        except stripe.StripeError as error:
            raise _translated(error) from error
        return refund.id

    def status(self, charge_id: str) -> str:
        try:
            intent = self._stripe.v1.payment_intents.retrieve(charge_id)
        except stripe.StripeError as error:
            raise _translated(error) from error
        return intent.status


def _is_about_the_card(error: stripe.InvalidRequestError) -> bool:
    """Whether there is no such card: anybody can send us the name of one."""
    return error.http_status == 404 or error.param == "payment_method"


def _translated(error: stripe.StripeError) -> Exception:
    """Our caller's chance to try again, or our own mistake as it is."""
    status = error.http_status
    # 409: the provider is still at work on an earlier attempt with this key.
    if status is None or status in (409, 429) or status >= 500:
        return ProviderUnavailable()
    return error


def _setting(name: str) -> str:
    value: str = getattr(settings, name)
    return value
