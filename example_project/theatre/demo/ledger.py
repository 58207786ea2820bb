"""What really happened, asked where it is kept: the database, the payment server and the
folder of the mails.

Nothing here is told by the shop, which is what is being tested.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
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
    mails: int

    def __sub__(self, earlier: Books) -> Books:
        return Books(
            orders=self.orders - earlier.orders,
            charges=self.charges - earlier.charges,
            charged_minor=self.charged_minor - earlier.charged_minor,
            declines=self.declines - earlier.declines,
            refunds=self.refunds - earlier.refunds,
            mails=self.mails - earlier.mails,
        )


_MAIL = re.compile(rb"We charged your card (\d+)\.(\d\d) EUR")


class Ledger:
    """Of all that happens, or of one `amount_minor` only.

    Customers who pay at the same time are told apart by what they pay.
    """

    def __init__(self, stage: Stage, *, amount_minor: int | None = None) -> None:
        self._amount_minor = amount_minor
        self._mails = stage.mails
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
        charges = self._ours(self._charges)
        paid = [charge for charge in charges if charge["status"] == "succeeded"]
        return Books(
            orders=self._count_orders(),
            charges=len(paid),
            charged_minor=sum(charge["amount"] for charge in paid),
            declines=len(charges) - len(paid),
            refunds=len(self._ours(self._list("refunds"))),
            mails=self._count_mails(),
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
        return str(self._ours(self._charges)[-1]["payment_intent"])

    def last_order(self) -> int:
        ((order,),) = self._database.execute(
            "SELECT id FROM (SELECT id, created_at, amount_minor FROM checkout_order "
            "UNION SELECT id, created_at, amount_minor FROM naive_naiveorder) AS orders "
            "WHERE %(amount)s::int IS NULL OR amount_minor = %(amount)s "
            "ORDER BY created_at DESC LIMIT 1",
            {"amount": self._amount_minor},
        ).fetchall()
        return int(order)

    def held_record(self, key: str) -> list[str] | None:
        """If a person has to decide on the operation with this key: its id, and what the
        person sees of it, as the command takes them."""
        row = self._database.execute(
            "SELECT id, concat_ws(':', state, attempts,"
            " to_hex(floor(extract(epoch FROM created_at))::bigint))"
            " FROM django_idempotency_idempotencyrecord"
            " WHERE key = %s AND state = 'held'",
            [key],
        ).fetchone()
        return None if row is None else [str(row[0]), f"--seen={row[1]}"]

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
        query = psycopg.sql.SQL(
            "SELECT count(*) FROM {} "
            "WHERE %(amount)s::int IS NULL OR amount_minor = %(amount)s"
        ).format(psycopg.sql.Identifier(table))
        parameters = {"amount": self._amount_minor}
        (count,) = self._database.execute(query, parameters).fetchall()[0]
        return int(count)

    def _count_mails(self) -> int:
        """Not the files, since mails of one moment may share one."""
        texts = [file.read_bytes() for file in self._mails.iterdir()]
        amounts = [
            int(euros + cents) for text in texts for euros, cents in _MAIL.findall(text)
        ]
        return sum(self._amount_minor in (None, amount) for amount in amounts)

    def _ours(self, listed: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return [each for each in listed if self._amount_minor in (None, each["amount"])]

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
