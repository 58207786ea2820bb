"""What the pages ask for."""

from __future__ import annotations

from typing import Any

from django import forms

from example_project.checkout.models import Cart

__all__ = ["CARDS", "PayForm", "QuantityForm"]

#: Tokens of the payment server's, as its widget would give them to the browser.
CARDS = {
    "pm_card_visa": "Visa ending in 4242, which pays",
    "pm_card_chargeCustomerFail": "Visa ending in 0341, which its bank declines",
}


class PayForm(forms.Form):
    email = forms.EmailField(
        label="E-mail address",
        help_text="The receipt goes there.",
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )
    payment_method = forms.ChoiceField(
        label="Card", choices=CARDS.items(), widget=forms.RadioSelect
    )
    #: What the page said is to be paid.
    agreed_minor = forms.IntegerField(widget=forms.HiddenInput)

    def __init__(self, *args: Any, cart: Cart, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        if cart.user:
            del self.fields["email"]  # the account has one


class QuantityForm(forms.Form):
    quantity = forms.IntegerField(min_value=0, max_value=99)
