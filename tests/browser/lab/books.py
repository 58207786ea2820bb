"""What has really happened: the database, the payment server's list and the mails.

None of this is asked through the lab or the demo, whose counting is what is tested.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import psycopg

from example_project.theatre.demo.stage import API_KEY

ORDERS = (
    "SELECT id FROM checkout_order WHERE amount_minor = %(amount)s "
    "UNION ALL SELECT id FROM naive_naiveorder WHERE amount_minor = %(amount)s"
)
# Acting on a report leaves a confirmation, or a booking where bookkeeping does it. The
# payment server reports to the protected bookkeeping by itself, too.
CONFIRMATIONS = (
    "SELECT c.endpoint FROM checkout_confirmation c JOIN checkout_payment p "
    "ON p.id = c.payment_id WHERE p.amount_minor = %(amount)s"
)
BOOKINGS = "SELECT endpoint FROM checkout_booking WHERE amount_minor = %(amount)s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    charged_minor: int
    charges: int
    orders: int
    refunds: int
    mails: int


class Books:
    def __init__(self, pages: dict[str, Any]) -> None:
        self._database = psycopg.connect(pages["database"], autocommit=True)
        self._payment_server = httpx.Client(
            base_url=urljoin(pages["payment server"], "/"),
            headers={"Authorization": f"Bearer {API_KEY}"},
            trust_env=False,
            timeout=60,
        )
        self._mails = Path(pages["mails"])

    def __enter__(self) -> Books:
        return self

    def __exit__(self, *exception: object) -> None:
        self._payment_server.close()
        self._database.close()

    def amounts(self) -> set[int]:
        """What carts have cost for which somebody has paid so far."""
        return {charge["amount"] for charge in self._list("charges")}

    def of(self, amount: int) -> Counts:
        """All that has happened to carts of this price."""
        paid = [c for c in self._list("charges") if c["status"] == "succeeded"]
        charges = sum(charge["amount"] == amount for charge in paid)
        return Counts(
            charged_minor=charges * amount,
            charges=charges,
            orders=len(self.orders(amount)),
            refunds=sum(r["amount"] == amount for r in self._list("refunds")),
            mails=self._count_mails(amount),
        )

    def orders(self, amount: int) -> list[int]:
        rows = self._database.execute(ORDERS, {"amount": amount}).fetchall()
        return [order for (order,) in rows]

    def handled(self, amount: int) -> tuple[Counter[str], Counter[str]]:
        """How often the shop acted, and bookkeeping; by the webhook that it came to."""
        confirmed, booked = (
            Counter(
                endpoint
                for (endpoint,) in self._database.execute(query, {"amount": amount})
            )
            for query in (CONFIRMATIONS, BOOKINGS)
        )
        return confirmed, booked

    def _count_mails(self, amount: int) -> int:
        charged = re.compile(rb"We charged your card (\d+)\.(\d\d) EUR")
        texts = [file.read_bytes() for file in self._mails.iterdir()]
        return sum(
            int(euros + cents) == amount
            for text in texts
            for euros, cents in charged.findall(text)
        )

    def _list(self, name: str) -> Iterator[dict[str, Any]]:
        parameters: dict[str, Any] = {"limit": 100}
        while True:
            answer = self._payment_server.get(f"v1/{name}", params=parameters)
            page = answer.raise_for_status().json()
            yield from page["data"]
            if not page["has_more"]:
                return
            parameters["starting_after"] = page["data"][-1]["id"]
