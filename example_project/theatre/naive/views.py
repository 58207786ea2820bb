"""Look first, then charge, then insert."""

from __future__ import annotations

import uuid

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_POST

from example_project.checkout.forms import CheckoutForm
from example_project.checkout.payments import payment_provider
from example_project.checkout.refusals import (
    AlreadyRefunded,
    CartAlreadyOrdered,
    CartEmpty,
    Refusal,
)

from .models import NaiveOrder, NaiveRefund
from .receipts import send_receipt


@login_required
@require_POST
def checkout(request: HttpRequest) -> HttpResponse:
    form = CheckoutForm(request.POST, customer_id=request.user.pk)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=400)
    cart = form.cleaned_data["cart"]
    try:
        if NaiveOrder.objects.filter(cart=cart).exists():
            raise CartAlreadyOrdered
        amount = cart.amount_due()
        if not amount:
            raise CartEmpty
        charge_id = payment_provider().charge(
            amount_minor=amount,
            payment_method=form.cleaned_data["payment_method"],
            key=str(uuid.uuid4()),
        )
    except Refusal as refusal:
        return JsonResponse(refusal.as_json(), status=refusal.status)
    order = NaiveOrder.objects.create(
        cart=cart, amount_minor=amount, charge_id=charge_id
    )
    send_receipt(order.pk)
    return JsonResponse({"order": order.pk, "amount_minor": amount}, status=201)


@login_required
@require_POST
def refund(request: HttpRequest, order_id: int) -> HttpResponse:
    order = get_object_or_404(NaiveOrder, pk=order_id, cart__user=request.user)
    try:
        if NaiveRefund.objects.filter(order=order).exists():
            raise AlreadyRefunded
        refund_id = payment_provider().refund(
            charge_id=order.charge_id, key=str(uuid.uuid4())
        )
    except Refusal as refusal:
        return JsonResponse(refusal.as_json(), status=refusal.status)
    made = NaiveRefund.objects.create(order=order, refund_id=refund_id)
    return JsonResponse(
        {"refund": made.pk, "amount_minor": order.amount_minor}, status=201
    )
