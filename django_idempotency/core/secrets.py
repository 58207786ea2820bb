"""What is a secret, by its name or by its look."""

from __future__ import annotations

import re

# A document has more names than headers have: neither an author nor a session's date.
_IN_DOCUMENTS = re.compile(
    r"authorization|cookie|password|passwd|secret|signature|token|cvc|cvv"
    r"|api.?key|private.?key|card.?number|^(pan|pin|iban)$",
    re.I,
)
# What people type into forms beside.
_IN_FORMS = re.compile(
    r"pass.?(phrase|code)|security.?code|account.?number|one.?time|^cc.?|card.?no"
    r"|^(otp|pass|pwd|ssn|csc|card)$",
    re.I,
)
_CARD_NUMBER = re.compile(r"[0-9](?:[ -]?[0-9]){12,18}")


def is_secret_in_document(name: str) -> bool:
    return _IN_DOCUMENTS.search(name) is not None


def is_secret_in_form(name: str, value: str) -> bool:
    """Whatever the field is called: people type cards into fields of any name."""
    return (
        is_secret_in_document(name)
        or _IN_FORMS.search(name) is not None
        or _is_card_number(value)
    )


def _is_card_number(value: str) -> bool:
    value = value.strip()
    if not _CARD_NUMBER.fullmatch(value):
        return False
    digits = [int(each) for each in reversed(value) if each.isdigit()]
    # The check digit of ISO/IEC 7812, which an order's or a phone number rarely has.
    doubled = (sum(divmod(2 * each, 10)) for each in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
