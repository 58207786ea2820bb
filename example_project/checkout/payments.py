"""What the shop wants of a payment provider."""

from __future__ import annotations

from functools import cache
from typing import Protocol

from django.conf import settings
from django.utils.module_loading import import_string

__all__ = ["PaymentProvider", "payment_provider"]


class PaymentProvider(Protocol):
    """Moves money. What moves it is called with a key, and the same key moves it once.

    Where the provider ignores keys, `honours_keys` must say so: then a call whose outcome
    is unknown can't be made again.
    """

    @property
    def honours_keys(self) -> bool: ...

    def charge(self, *, amount_minor: int, payment_method: str, key: str) -> str:
        """Take the amount from the card and return the provider's id of the charge.

        Raises:
            CardDeclined: the bank said no, or there is no such card; asking again with
                this key says no again.
            ProviderUnavailable: nobody knows whether money moved. Ask again with the
                same key, never with another.
        """

    def refund(self, *, charge_id: str, key: str) -> str:
        """Give the whole charge back and return the provider's id of the refund.

        Raises:
            ProviderUnavailable: as for a charge.
        """

    def status(self, charge_id: str) -> str:
        """Ask the provider how the charge stands, such as ``succeeded``.

        Raises:
            ProviderUnavailable: the provider can't be asked now.
        """


@cache
def payment_provider() -> PaymentProvider:
    """The provider that PAYMENT_PROVIDER names, one for the whole process."""
    path: str = getattr(settings, "PAYMENT_PROVIDER")  # noqa: B009
    provider: PaymentProvider = import_string(path)()
    return provider
