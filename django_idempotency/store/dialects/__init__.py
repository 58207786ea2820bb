"""The kinds of database: their SQL, how they wait and how they fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import Error, NotSupportedError
from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.conf import conf

from .base import Dialect, Trouble
from .galera import Galera
from .mariadb import MariaDB
from .portable import PortablePostgreSQL
from .postgresql import PostgreSQL
from .sqlite import SQLite

MARIADB = (10, 11)
"""The oldest version that is tested; SKIP LOCKED came with 10.6."""


DIALECTS: Mapping[str, Dialect] = {
    "postgresql": PostgreSQL(),
    "sqlite": SQLite(),
    "mysql": MariaDB(),
}
"""By Django's name for the vendor; it is the same for MariaDB and MySQL."""

DISTRIBUTED: Mapping[str, Dialect] = {"citus": PortablePostgreSQL()}
"""By the names in `IDEMPOTENCY_DISTRIBUTED`: PostgreSQL to Django, on many servers."""

GALERA = Galera()

_are_nodes: dict[str, bool] = {}
"""By alias, whether the servers of this process are nodes of a cluster."""


def dialect_of(connection: BaseDatabaseWrapper) -> Dialect:
    """Return the statements for this kind of database.

    With MySQL or MariaDB, a new connection asks the server which of the two it is, and
    the first one of an alias in this process whether it is a node of Galera: the first
    one after a connection was lost, too.

    Raises:
        NotSupportedError: for a database whose waits and conflicts are not known.
    """
    vendor = connection.vendor
    dialect = DIALECTS.get(vendor)
    if vendor == "postgresql" and conf.IDEMPOTENCY_DISTRIBUTED:
        kind = conf.distribution_of(connection.alias) or ""
        dialect = DISTRIBUTED.get(kind, dialect)
    if dialect is None or (vendor == "mysql" and not _is_tested_mariadb(connection)):
        raise NotSupportedError(
            f"django_idempotency doesn't support {connection.display_name}: let your "
            "database router send IdempotencyRecord and ProcessedEvent to PostgreSQL, to "
            "MariaDB 10.11 or later, or to SQLite."
        )
    return GALERA if vendor == "mysql" and _is_node(connection) else dialect


def _is_tested_mariadb(connection: Any) -> bool:
    return bool(connection.mysql_is_mariadb and connection.mysql_version >= MARIADB)


def _is_node(connection: BaseDatabaseWrapper) -> bool:
    found = _are_nodes.get(connection.alias)
    if found is None:
        with connection.temporary_connection() as cursor:
            # Not @@wsrep_on, which is an error where the server was built without; and it
            # may be on where nothing is loaded that could replicate.
            cursor.execute(
                "SHOW GLOBAL VARIABLES"
                " WHERE variable_name IN ('wsrep_on', 'wsrep_provider')"
            )
            settings = dict(cursor.fetchall())
        has_provider = settings.get("wsrep_provider", "none") not in ("", "none")
        found = settings.get("wsrep_on") == "ON" and has_provider
        _are_nodes[connection.alias] = found
    return found


def trouble_of(connection: BaseDatabaseWrapper, error: Error) -> Trouble | None:
    """Return what the error means, without a query to a server that may be gone."""
    trouble = DIALECTS[connection.vendor].trouble(error)
    if trouble is Trouble.DISCONNECTED:
        _are_nodes.pop(connection.alias, None)  # the next one may be another server
    return trouble
