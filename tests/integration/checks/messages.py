"""What the checks say of a database, and what they have said as values to compare."""

from collections.abc import Iterable

from django.core.checks import CheckMessage
from django.db import connection

from django_idempotency.checks.databases import check_live_databases


def ids(messages: Iterable[CheckMessage]) -> list[str]:
    """The last parts of the ids: ``E001``."""
    return [str(message.id).removeprefix("django_idempotency.") for message in messages]


def only(messages: Iterable[CheckMessage]) -> CheckMessage:
    (message,) = messages
    return message


def live() -> list[CheckMessage]:
    return check_live_databases(None, databases=["default"])


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
