"""``{% load money %}``: amounts for people to read."""

from __future__ import annotations

from django import template

from example_project.checkout.models import CURRENCY

__all__ = ["money"]

register = template.Library()


@register.filter
def money(amount_minor: int) -> str:
    """``{{ 3400|money }}`` is "34.00 EUR", as in the mails."""
    return f"{amount_minor / 100:.2f} {CURRENCY.upper()}"
