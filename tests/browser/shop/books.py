"""What came of it: from the database and from the payment server's own lists."""

from __future__ import annotations

from dataclasses import dataclass, fields

import psycopg

from example_project.demo.ledger import Ledger
from example_project.demo.stage import Customer, Stage

__all__ = ["Accounts", "Books"]


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """Counts between two moments."""

    #: Of the database.
    orders: int = 0
    payments: int = 0
    refunds: int = 0
    email_changes: int = 0
    #: Of the payment server.
    charges: int = 0
    charged_minor: int = 0
    money_back: int = 0

    def __sub__(self, earlier: Accounts) -> Accounts:
        return Accounts(
            **{
                each.name: getattr(self, each.name) - getattr(earlier, each.name)
                for each in fields(self)
            }
        )


class Books:
    """Counts since it was made. A shop of the demo's has no other visitors meanwhile."""

    def __init__(self, stage: Stage) -> None:
        self._ledger = Ledger(stage)
        self._database = psycopg.connect(stage.database_url, autocommit=True)
        self._opening = self._now()

    def close(self) -> None:
        self._ledger.__exit__()
        self._database.close()

    def so_far(self) -> Accounts:
        return self._now() - self._opening

    def last_order(self) -> int:
        """The number of the newest order."""
        return self._number("SELECT max(id) FROM checkout_order")

    def end_sessions(self) -> None:
        """As if everybody had been away for two weeks."""
        self._database.execute("DELETE FROM django_session")

    def make_staff(self, customer: Customer) -> None:
        """Let somebody into the admin."""
        self._database.execute(
            "UPDATE auth_user SET is_staff = true, is_superuser = true "
            "WHERE username = %s",
            [customer.name],
        )

    def _now(self) -> Accounts:
        paid = self._ledger.now()
        return Accounts(
            orders=self._count("checkout_order"),
            payments=self._count("checkout_payment"),
            refunds=self._count("checkout_refund"),
            email_changes=self._count("checkout_emailchange"),
            charges=paid.charges,
            charged_minor=paid.charged_minor,
            money_back=paid.refunds,
        )

    def _count(self, table: str) -> int:
        name = psycopg.sql.Identifier(table)
        return self._number(psycopg.sql.SQL("SELECT count(*) FROM {}").format(name))

    def _number(self, query: str | psycopg.sql.Composed) -> int:
        ((number,),) = self._database.execute(query).fetchall()
        return int(number)
