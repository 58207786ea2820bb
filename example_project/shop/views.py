"""The pages that show something, and the one form that needs no key."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_safe

from example_project.checkout.carts import set_quantity
from example_project.checkout.models import Cart, Order, Product
from example_project.checkout.refusals import Refusal

from .forms import QuantityForm
from .outbox import newest_mails
from .visits import current_cart, remember, with_cart

MAILS_SHOWN = 50


@require_safe
def products(request: HttpRequest) -> HttpResponse:
    """What there is to buy."""
    return render(
        request, "shop/products.html", {"products": Product.objects.order_by("pk")}
    )


@require_safe
def own_cart(request: HttpRequest) -> HttpResponse:
    """The browser's own cart, whichever that is."""
    if found := current_cart(request):
        return redirect("shop:cart", found.token)
    return render(request, "shop/cart.html")


@require_safe
@with_cart
def cart(request: HttpRequest, cart: Cart) -> HttpResponse:
    """What is in the cart; once that is ordered, the order."""
    if cart.orders.exists():
        return redirect("shop:order", cart.token)
    remember(request, cart)
    return _cart_page(request, cart)


@with_cart
@transaction.atomic
def change_quantity(request: HttpRequest, cart: Cart, product_id: int) -> HttpResponse:
    """Have so many of a product: no key, since the same again changes nothing."""
    if request.method == "POST":
        form = QuantityForm(request.POST, auto_id=f"id_{product_id}_%s")
        if not form.is_valid():
            return _cart_page(request, cart, {product_id: form}, status=400)
        product = get_object_or_404(Product, pk=product_id)
        try:
            set_quantity(cart, product, form.cleaned_data["quantity"])
        except Refusal as refusal:
            return _cart_page(
                request, cart, refusal=refusal.detail, status=refusal.status
            )
    return redirect("shop:cart", cart.token)


@require_safe
@with_cart
def order(request: HttpRequest, cart: Cart) -> HttpResponse:
    """What was bought, and whether the money went back.

    What a customer has to be told is in the address or in the books. A message would be
    shown once, and a replay brings none.
    """
    return order_page(
        request,
        get_object_or_404(Order, cart=cart),
        already=request.GET.get("already", ""),
    )


@require_safe
def outbox(request: HttpRequest) -> HttpResponse:
    """Everybody's mails, where the settings want them shown."""
    folder: str = getattr(settings, "SHOP_OUTBOX", "")
    mails = newest_mails(Path(folder), limit=MAILS_SHOWN) if folder else None
    return render(request, "shop/outbox.html", {"mails": mails})


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """For CSRF_FAILURE_VIEW: a page from before the visitor signed in, most likely."""
    return render(request, "shop/csrf_failure.html", status=403)


def order_page(
    request: HttpRequest,
    order: Order,
    *,
    already: str = "",
    refusal: str = "",
    status: int = 200,
) -> HttpResponse:
    context = {
        "order": order,
        "items": order.cart.items.select_related("product").order_by("pk"),
        "refund": getattr(order.payment, "refund", None),
        "receipt_to": order.email or order.cart.email,
        "already": already,
        "refusal": refusal,
    }
    return render(request, "shop/order.html", context, status=status)


def _cart_page(
    request: HttpRequest,
    cart: Cart,
    with_errors: dict[int, QuantityForm] | None = None,
    *,
    refusal: str = "",
    status: int = 200,
) -> HttpResponse:
    items = cart.items.select_related("product").order_by("pk")
    forms = {
        item.product_id: QuantityForm(
            initial={"quantity": item.quantity}, auto_id=f"id_{item.product_id}_%s"
        )
        for item in items
    } | (with_errors or {})
    context = {
        "cart": cart,
        "lines": [(item, forms[item.product_id]) for item in items],
        "amount": cart.amount_due(),
        "refusal": refusal,
    }
    return render(request, "shop/cart.html", context, status=status)
