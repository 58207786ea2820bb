"""Checkout and refund as plain views.

Whoever asks is checked outside, then comes the key, then the work. A view below
``@idempotent`` runs in a transaction together with the record of its key; with a lease
it runs outside of any, in steps.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_POST

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest

from .accounts import give_new_email
from .forms import CheckoutForm, EmailForm
from .models import Cart, Order
from .ordering import place_order, refund_order
from .ordering_in_steps import pay_in_steps, refund_in_steps
from .refusals import Refusal

#: Read at import, as decorators are; another project's settings may not have it.
LEASE: timedelta = getattr(settings, "SHOP_LEASE", timedelta(minutes=1))


@login_required
@require_POST
@idempotent
def checkout(request: IdempotentRequest) -> HttpResponse:
    """Pay for a cart: 201 with the order, however often the request arrives."""
    form = CheckoutForm(request.POST, customer_id=request.user.pk)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    try:
        order = place_order(
            form.cleaned_data["cart"],
            payment_method=form.cleaned_data["payment_method"],
            key=request.idempotency.key_for("charge"),
        )
    except Refusal as refusal:
        return JsonResponse(refusal.as_json(), status=refusal.status)
    return JsonResponse(
        {"order": order.pk, "amount_minor": order.amount_minor}, status=201
    )


@login_required
@require_POST
@idempotent
def refund(request: IdempotentRequest, order_id: int) -> HttpResponse:
    """Give the money of an order back: 201 with the refund, once per order."""
    order = get_object_or_404(Order, pk=order_id, cart__user=request.user)
    try:
        made = refund_order(order, key=request.idempotency.key_for("refund"))
    except Refusal as refusal:
        return JsonResponse(refusal.as_json(), status=refusal.status)
    return JsonResponse(
        {"refund": made.pk, "amount_minor": made.amount_minor}, status=201
    )


@login_required
@require_POST
@idempotent(lease=LEASE)
def leased_checkout(request: IdempotentRequest) -> HttpResponse:
    """The same for a provider that takes its time: no transaction waits for it."""
    form = CheckoutForm(request.POST, customer_id=request.user.pk)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    try:
        order_id, amount = pay_in_steps(
            request.idempotency,
            form.cleaned_data["cart"],
            payment_method=form.cleaned_data["payment_method"],
        )
    except Refusal as refusal:
        return JsonResponse(refusal.as_json(), status=refusal.status)
    return JsonResponse({"order": order_id, "amount_minor": amount}, status=201)


@login_required
@require_POST
@idempotent(lease=LEASE)
def leased_refund(request: IdempotentRequest, order_id: int) -> HttpResponse:
    """The same for a provider that takes its time."""
    order = get_object_or_404(Order, pk=order_id, cart__user=request.user)
    try:
        refund_id, amount = refund_in_steps(request.idempotency, order)
    except Refusal as refusal:
        return JsonResponse(refusal.as_json(), status=refusal.status)
    return JsonResponse({"refund": refund_id, "amount_minor": amount}, status=201)


@login_required
@require_POST
@idempotent
def change_email(request: IdempotentRequest) -> HttpResponse:
    """Give the account another e-mail address, and confirm it there, once."""
    form = EmailForm(request.POST)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    change = give_new_email(request.user, form.cleaned_data["email"])
    return JsonResponse({"email": change.new})


@login_required
@require_GET
@ensure_csrf_cookie
def carts(request: HttpRequest) -> HttpResponse:
    """The carts of the customer that are not ordered yet."""
    own = Cart.objects.filter(user=request.user.pk, orders=None).order_by("pk")
    return JsonResponse({"carts": list(own.values_list("pk", flat=True))})
