"""Amounts of money as people write them beside an operation, to be added up."""

from __future__ import annotations

import re
from decimal import Decimal

_NUMBER = r"\d{1,15}(?:\.\d{1,4})?|\d{1,3}(?:,\d{3}){1,4}(?:\.\d{1,4})?"
_CURRENCY = r"[^\W\d_]{1,8}|[$€£¥₣₤₦₩₪₫₱₴₹₺₽₿]"
_AMOUNT = re.compile(
    rf"\s*(?:({_NUMBER})\s*({_CURRENCY})|({_CURRENCY})\s*({_NUMBER}))\s*"
)


def amount_in(text: str) -> tuple[Decimal, str] | None:
    """Return the number and the currency; ``None``: it can't be told what it means.

    As ``46.82 EUR``, ``€46.82`` or ``1,250 JPY``. ``46,82 EUR`` could be either of two
    amounts, and is none.
    """
    found = _AMOUNT.fullmatch(text)
    if found is None:
        return None
    number, currency = found[1] or found[4], found[2] or found[3]
    return Decimal(number.replace(",", "")), currency.upper()
