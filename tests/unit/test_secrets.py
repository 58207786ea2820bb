"""What a form must not show again, by its names and by what is in it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.core.secrets import is_secret_in_form


@pytest.mark.parametrize(
    "name",
    [
        *("password", "new_password2", "passphrase", "passcode", "pass", "pwd"),
        *("cvc", "card_cvv", "card-number", "cardNo", "card", "cc_exp", "pin", "iban"),
        *("otp", "one_time_code", "securityCode", "api_key", "stripeToken", "client_secret"),
    ],
)  # fmt: skip
def test_what_is_called_a_secret_is_one(name: str) -> None:
    assert is_secret_in_form(name, "x")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("payment_method", "card"), ("amount", "12.50"), ("author", "Ann")),
        *(("idempotency_key", "K"), ("postcode", "10115"), ("accessories", "2")),
        *(("keyboard", "de"), ("shipping", "fast"), ("discard", "no"), ("note", "")),
        *(("phone", "+49 30 1234567"), ("order", "4111111111111112")),
        *(("n", "4111-1111"), ("n", "٤١١١١١١١١١١١١١١١"), ("n", "41111111111111110000")),
    ],
)
def test_what_is_none_is_shown(name: str, value: str) -> None:
    assert not is_secret_in_form(name, value)


@given(
    st.lists(st.integers(0, 9), min_size=12, max_size=18),
    st.sampled_from(["", " ", "-"]),
)
def test_number_of_a_card_is_one_in_a_field_of_any_name(
    digits: list[int], between: str
) -> None:
    """One of the ten last digits makes it one, and the others don't."""
    numbers = [between.join(map(str, [*digits, last])) for last in range(10)]

    assert sum(is_secret_in_form("n", f" {number} ") for number in numbers) == 1
