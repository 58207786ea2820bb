"""What came of it: from the database and from the payment server's own lists."""

from collections import Counter

import psycopg

from example_project.theatre.demo.ledger import Ledger
from example_project.theatre.demo.stage import Customer, Stage

Accounts = Counter[str]
"""Counts between two moments, of the database and of the payment server."""

ONE_COFFEE = Accounts(orders=1, payments=1, charges=1, charged_minor=1250)


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
        counts = self._now()
        counts.subtract(self._opening)
        return counts

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
            email_changes=self._count("checkout_emailchange"),
            charges=paid.charges,
            charged_minor=paid.charged_minor,
        )

    def _count(self, table: str) -> int:
        name = psycopg.sql.Identifier(table)
        return self._number(psycopg.sql.SQL("SELECT count(*) FROM {}").format(name))

    def _number(self, query: str | psycopg.sql.Composed) -> int:
        ((number,),) = self._database.execute(query).fetchall()
        return int(number)
