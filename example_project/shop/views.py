"""The shop's pages."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from example_project.checkout.models import Product


@require_safe
def products(request: HttpRequest) -> HttpResponse:
    """What there is to buy."""
    return render(
        request, "shop/products.html", {"products": Product.objects.order_by("pk")}
    )
