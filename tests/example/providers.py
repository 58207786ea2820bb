"""A payment provider in memory that honours keys, as Stripe does."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

from django.test import override_settings

from example_project.checkout.payments import payment_provider
from example_project.checkout.refusals import CardDeclined, ProviderUnavailable

GOOD_CARD = "pm_good"
DECLINED_CARD = "pm_declined"
#: The charge is made, and the answer to the first request is lost.
SILENT_CARD = "pm_silent"


class RecordingProvider:
    """Keeps count of what it was asked and what it did."""

    honours_keys = True

    def __init__(self) -> None:
        #: How often each key came.
        self.asked: Counter[str] = Counter()
        #: The amount of each charge and refund that was made, by its key.
        self.charges: dict[str, int] = {}
        self.refunds: dict[str, str] = {}

    def charge(self, *, amount_minor: int, payment_method: str, key: str) -> str:
        self.asked[key] += 1
        if payment_method == DECLINED_CARD:
            raise CardDeclined
        self.charges[key] = amount_minor
        if payment_method == SILENT_CARD and self.asked[key] == 1:
            raise ProviderUnavailable
        return f"pi_{key}"

    def refund(self, *, charge_id: str, key: str) -> str:
        self.asked[key] += 1
        self.refunds[key] = charge_id
        return f"re_{key}"

    def status(self, charge_id: str) -> str:
        return "succeeded"


class ForeseeableProvider(RecordingProvider):
    """Names the charge after the card, so that it can be reported before it is made."""

    def charge(self, *, amount_minor: int, payment_method: str, key: str) -> str:
        super().charge(
            amount_minor=amount_minor, payment_method=payment_method, key=key
        )
        return payment_method.replace("pm_", "pi_")


class CardProvider(RecordingProvider):
    """Knows the cards that the shop's pages offer."""

    #: How many of the next answers get lost, after the work is done.
    answers_to_lose = 0

    def charge(self, *, amount_minor: int, payment_method: str, key: str) -> str:
        cards = {"pm_card_visa": GOOD_CARD, "pm_card_chargeCustomerFail": DECLINED_CARD}
        charge_id = super().charge(
            amount_minor=amount_minor, payment_method=cards[payment_method], key=key
        )
        self._answer()
        return charge_id

    def refund(self, *, charge_id: str, key: str) -> str:
        refund_id = super().refund(charge_id=charge_id, key=key)
        self._answer()
        return refund_id

    def _answer(self) -> None:
        if self.answers_to_lose:
            self.answers_to_lose -= 1
            raise ProviderUnavailable


P = TypeVar("P", bound=RecordingProvider)


@contextmanager
def paying_by(kind: type[P]) -> Iterator[P]:
    """Let the shop be paid by a fresh provider of this kind."""
    payment_provider.cache_clear()
    with override_settings(PAYMENT_PROVIDER=f"{__name__}.{kind.__name__}"):
        yield cast("P", payment_provider())
    payment_provider.cache_clear()
