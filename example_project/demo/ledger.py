"""What really happened, asked where it is kept: the database and the payment server.

Nothing here is told by the shop, which is what is being tested.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg

from .stage import API_KEY, Stage

__all__ = ["Books", "Ledger"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Counts since the start, or between two moments."""

    orders: int
    charges: int
    charged_minor: int
    declines: int
    refunds: int

    def __sub__(self, earlier: Books) -> Books:
        return Books(
            orders=self.orders - earlier.orders,
            charges=self.charges - earlier.charges,
            charged_minor=self.charged_minor - earlier.charged_minor,
            declines=self.declines - earlier.declines,
            refunds=self.refunds - earlier.refunds,
        )


class Ledger:
    def __init__(self, stage: Stage) -> None:
        self._database = psycopg.connect(stage.database_url, autocommit=True)
        self._payment_server = httpx.Client(
            base_url=stage.payment_server_url,
            headers={"Authorization": f"Bearer {API_KEY}"},
            trust_env=False,
            timeout=30,
        )
        # Lists grow at their end, so that what was read stays read.
        self._charges: list[dict[str, Any]] = []
        self._events: list[dict[str, Any]] = []

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exception: object) -> None:
        self._payment_server.close()
        self._database.close()

    def now(self) -> Books:
        """All that has happened so far."""
        self._charges += self._list("charges", after=self._charges)
        paid = [charge for charge in self._charges if charge["status"] == "succeeded"]
        return Books(
            orders=self._count_orders(),
            charges=len(paid),
            charged_minor=sum(charge["amount"] for charge in paid),
            declines=len(self._charges) - len(paid),
            refunds=len(list(self._list("refunds"))),
        )

    def handled(self, event_ids: Collection[str], *, endpoint: str | None) -> int:
        """How often these events were acted on, by one endpoint or by all."""
        tables = ("checkout_confirmation", "checkout_booking")
        return sum(self._count_events(table, event_ids, endpoint) for table in tables)

    def payment_of(self, order: int) -> str:
        """The payment server's id of what paid for the order."""
        ((payment,),) = self._database.execute(
            "SELECT provider_id FROM checkout_payment WHERE order_id = %s", [order]
        ).fetchall()
        return str(payment)

    def last_payment(self) -> str:
        """The payment server's id of the last payment that `now` has seen."""
        return str(self._charges[-1]["payment_intent"])

    def event_about(self, payment: str) -> dict[str, Any]:
        """The payment server's own event that the payment has succeeded."""
        self._events += self._list("events", after=self._events)
        (event,) = (
            event
            for event in self._events
            if event["type"] == "payment_intent.succeeded"
            and event["data"]["object"]["id"] == payment
        )
        return event

    def _count_events(
        self, table: str, event_ids: Collection[str], endpoint: str | None
    ) -> int:
        query = psycopg.sql.SQL(
            "SELECT count(*) FROM {} WHERE event_id = ANY(%s) "
            "AND (%s::text IS NULL OR endpoint = %s)"
        ).format(psycopg.sql.Identifier(table))
        ids = list(event_ids)
        (count,) = self._database.execute(query, [ids, endpoint, endpoint]).fetchall()[
            0
        ]
        return int(count)

    def _count_orders(self) -> int:
        tables = ("checkout_order", "naive_naiveorder")
        return sum(self._count(table) for table in tables)

    def _count(self, table: str) -> int:
        query = psycopg.sql.SQL("SELECT count(*) FROM {}")
        named = query.format(psycopg.sql.Identifier(table))
        (count,) = self._database.execute(named).fetchall()[0]
        return int(count)

    def _list(
        self, name: str, *, after: list[dict[str, Any]] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Everything on the payment server's list, page by page."""
        last = after[-1]["id"] if after else None
        while True:
            parameters = {"limit": 100} | ({"starting_after": last} if last else {})
            answer = self._payment_server.get(f"/v1/{name}", params=parameters)
            page = answer.raise_for_status().json()
            yield from page["data"]
            if not page["has_more"]:
                return
            last = page["data"][-1]["id"]
