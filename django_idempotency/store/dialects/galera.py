"""Galera: nodes of MariaDB in a cluster, all of which take writes.

Note [Statements that Galera tries again]
What commits itself is tried again by the server if another node was first, and then the
limits of a `SET STATEMENT` around it stay in the session for ever: the next statements,
the project's too, give up at once. So the server is told to leave that to us.
"""

from __future__ import annotations

from .mariadb import MariaDB


class Galera(MariaDB):  # pragma: no cover - Galera
    first_limit = "wsrep_retry_autocommit = 0, "
