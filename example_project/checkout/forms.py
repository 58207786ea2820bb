"""What the plain views read."""

from __future__ import annotations

from typing import Any, cast

from django import forms

from .models import Cart


class CheckoutForm(forms.Form):
    cart = forms.ModelChoiceField(queryset=Cart.objects.none())
    #: A token that the provider gave the browser for a card; the shop sees no card.
    payment_method = forms.RegexField(r"^pm_\w+$")

    def __init__(self, *args: Any, customer_id: int | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        cart = cast("forms.ModelChoiceField[Cart]", self.fields["cart"])
        # Somebody else's cart is as unknown as one that never was.
        cart.queryset = Cart.objects.filter(user=customer_id).exclude(user=None)


class EmailForm(forms.Form):
    email = forms.EmailField(
        label="New e-mail address",
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )
