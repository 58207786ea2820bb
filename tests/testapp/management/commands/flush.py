"""``flush`` as tests need it: what comes between two tests with real transactions.

Django's own truncates every table, and then makes all permissions anew. Here the few rows
are deleted and the permissions stay, which takes a tenth of the time.
"""

from typing import Any

from django.core.management.commands import flush
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

# What ``migrate`` has written.
KEPT = {"auth_permission", "django_content_type", "django_migrations"}


class Command(flush.Command):
    help = "Deletes the rows that a test has left in the database."

    def handle(self, **options: Any) -> None:
        using = options["database"]
        connection = connections[using]
        names = connection.introspection.django_table_names(
            only_existing=True, include_views=False
        )
        tables = sorted(set(names) - KEPT)
        if tables:
            with (
                connection.constraint_checks_disabled(),
                transaction.atomic(using=using),
            ):
                _delete_rows(connection, tables)


def _delete_rows(connection: BaseDatabaseWrapper, names: list[str]) -> None:
    tables = [connection.ops.quote_name(name) for name in names]
    with connection.cursor() as cursor:
        # As TRUNCATE does: what a forgotten transaction has written must not appear in
        # the next test.
        if connection.vendor == "postgresql":
            cursor.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
        for table in tables:
            cursor.execute(f"DELETE FROM {table}")  # noqa: S608 - a name, quoted
