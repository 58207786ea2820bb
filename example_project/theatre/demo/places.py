"""Where everything of the demo is, and who is there; as values, and as text for the lab."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

__all__ = ["Account", "Customer", "Manage", "Stage"]

#: Runs these commands of the shop's ``manage.py`` at once, and waits.
Manage = Callable[[Sequence[Sequence[str]]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who can sign in."""

    name: str
    password: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer(Account):
    """Somebody with many carts, all for the same amount."""

    carts: list[int]
    cart_amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where everything is."""

    shop_url: str
    #: The same shop on a machine whose payment provider is slow.
    slow_shop_url: str
    #: The same shop once more, together with the lab; no scenario harms it. ``None``
    #: where there is no lab.
    lab_url: str | None
    gateway_url: str
    slow_gateway_url: str
    payment_server_url: str
    database_url: str
    #: Two, and those of the scenarios that are played at the same time as others.
    customers: list[Customer]
    others: list[Customer]
    #: May see the records in the admin.
    owner: Account
    mails: Path
    logs: Path
    unprotected: bool
    manage: Manage

    def as_json(self) -> str:
        """All of it but `manage`, for another process."""
        names = [field.name for field in fields(self) if field.name != "manage"]
        return json.dumps({name: getattr(self, name) for name in names}, default=_plain)

    @classmethod
    def from_json(cls, text: str, manage: Manage) -> Stage:
        values = json.loads(text)
        for name in ("customers", "others"):
            values[name] = [Customer(**each) for each in values[name]]
        for name in ("mails", "logs"):
            values[name] = Path(values[name])
        values["owner"] = Account(**values["owner"])
        return cls(**values, manage=manage)


def _plain(value: object) -> object:
    return asdict(value) if isinstance(value, Account) else str(value)
