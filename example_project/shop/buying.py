"""The forms that must work once: each carries a key.

Who asks is checked first, then comes the key, then the work. A success is answered with
a redirect, as is what somebody else has done before; what the customer can correct comes
back with the form, which then has a new key. Only where nobody knows whether money moved
does the same key have to come again.
"""

from __future__ import annotations

from datetime import timedelta

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from example_project.checkout.accounts import give_new_email
from example_project.checkout.carts import put_in, same_again
from example_project.checkout.forms import EmailForm
from example_project.checkout.models import Cart, Order, Product
from example_project.checkout.ordering import place_order, refund_order
from example_project.checkout.refusals import (
    AlreadyRefunded,
    CardDeclined,
    CartAlreadyOrdered,
    CartEmpty,
    ProviderUnavailable,
    Refusal,
)

from .forms import CARDS, PayForm
from .views import order_page
from .visits import current_cart, remember, with_cart

#: A customer who pays in two tabs within this time is asked whether that is meant.
ASKED_ABOUT = timedelta(seconds=30)


@idempotent
def add(request: IdempotentRequest, product_id: int) -> HttpResponse:
    """Put one more into the cart, and make the cart if there is none."""
    if request.method != "POST":
        return redirect("shop:products")
    product = get_object_or_404(Product, pk=product_id)
    try:
        cart = current_cart(request) or _new_cart(request)
        put_in(cart, product)
    except Refusal:  # it was paid in this moment, in another tab
        cart = _new_cart(request)
        put_in(cart, product)
    return redirect("shop:cart", cart.token)


@with_cart
@idempotent(intent_window=ASKED_ABOUT)
def checkout(request: IdempotentRequest, cart: Cart) -> HttpResponse:
    """The form, and paying with it."""
    if request.method == "POST":
        return _pay(request, cart)
    if cart.orders.exists():
        return redirect("shop:order", cart.token)
    amount = cart.amount_due()
    if not amount:
        return redirect("shop:cart", cart.token)
    remember(request, cart)
    first_card = next(iter(CARDS))
    form = PayForm(initial={"payment_method": first_card}, cart=cart)
    return _checkout_page(request, cart, form)


@with_cart
@idempotent
def refund(request: IdempotentRequest, cart: Cart) -> HttpResponse:
    """Give the money back."""
    order = get_object_or_404(Order, cart=cart)
    if request.method != "POST":
        return redirect("shop:order", cart.token)
    try:
        refund_order(order, key=request.idempotency.key_for("refund"))
    except AlreadyRefunded:
        return _to_order(cart, already="refunded")
    except ProviderUnavailable as refusal:
        return _ask_again(request, refusal)
    except Refusal as refusal:
        return order_page(request, order, refusal=refusal.detail, status=refusal.status)
    return redirect("shop:order", cart.token)


@login_required
@idempotent
def change_email(request: IdempotentRequest) -> HttpResponse:
    """Give the account another e-mail address."""
    data = request.POST if request.method == "POST" else None
    form = EmailForm(data, label_suffix="")
    if form.is_valid():
        change = give_new_email(request.user, form.cleaned_data["email"])
        messages.success(request, f"We have sent a confirmation to {change.new}.")
        return redirect("shop:email")
    status = 400 if form.is_bound else 200
    return render(request, "shop/email.html", {"form": form}, status=status)


def _pay(request: IdempotentRequest, cart: Cart) -> HttpResponse:
    # "Pay again": the customer was asked, by possible-duplicate.html.
    if cart.user and request.POST.get("idempotency_confirm") and cart.orders.exists():
        cart = same_again(cart)
    form = PayForm(request.POST, cart=cart)
    if not form.is_valid():
        return _checkout_page(request, cart, form, status=400)
    try:
        place_order(
            cart,
            payment_method=form.cleaned_data["payment_method"],
            key=request.idempotency.key_for("charge"),
            agreed_minor=form.cleaned_data["agreed_minor"],
            email=form.cleaned_data.get("email", ""),
        )
    except CartAlreadyOrdered:
        return _to_order(cart, already="paid")
    except CartEmpty:
        return redirect("shop:cart", cart.token)
    except ProviderUnavailable as refusal:
        return _ask_again(request, refusal)
    except Refusal as refusal:
        is_about_the_card = isinstance(refusal, CardDeclined)
        form.add_error("payment_method" if is_about_the_card else None, refusal.detail)
        return _checkout_page(request, cart, form, status=refusal.status)
    return redirect("shop:order", cart.token)


def _checkout_page(
    request: HttpRequest, cart: Cart, form: PayForm, *, status: int = 200
) -> HttpResponse:
    context = {
        "cart": cart,
        "items": cart.items.select_related("product").order_by("pk"),
        "amount": cart.amount_due(),
        "form": form,
    }
    return render(request, "shop/checkout.html", context, status=status)


def _to_order(cart: Cart, *, already: str) -> HttpResponse:
    return redirect(f"{reverse('shop:order', args=[cart.token])}?already={already}")


def _ask_again(request: HttpRequest, refusal: Refusal) -> HttpResponse:
    """The outcome is unknown: the same form, and the same key, have to come again."""
    return render(
        request, "shop/unconfirmed.html", {"refusal": refusal}, status=refusal.status
    )


def _new_cart(request: HttpRequest) -> Cart:
    user = request.user if request.user.is_authenticated else None
    return Cart.objects.create(user=user)
