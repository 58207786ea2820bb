"""``{% load pictures %}``: what the products look like."""

from __future__ import annotations

from django import template
from django.templatetags.static import static
from django.utils.text import slugify

from example_project.checkout.models import Product

__all__ = ["picture"]

register = template.Library()

_DRAWN = frozenset({"coffee", "mug", "wrapping"})


@register.filter
def picture(product: Product) -> str:
    """The address of a drawing; of a parcel, for what nobody has drawn."""
    name = slugify(product.name)
    return static(f"shop/{name if name in _DRAWN else 'parcel'}.svg")
