"""What the checks have said, as values that a test compares."""

from __future__ import annotations

import re
from collections.abc import Iterable

from django.core.checks import CheckMessage


def ids(messages: Iterable[CheckMessage]) -> list[str]:
    """The last parts of the ids: ``E001``."""
    return [str(message.id).removeprefix("django_idempotency.") for message in messages]


def only(messages: Iterable[CheckMessage]) -> CheckMessage:
    (message,) = messages
    return message


def ids_in(output: str) -> list[str]:
    """The ids in what ``manage.py check`` prints, other apps' included."""
    return re.findall(r"\((\w+\.[A-Z]\d{3})\)", output)


def hint_in(output: str) -> str:
    """The hint of the one message in what ``manage.py check`` prints."""
    (hint,) = re.findall(r"HINT: (.*?)\n\nSystem check", output, re.DOTALL)
    return str(hint)
