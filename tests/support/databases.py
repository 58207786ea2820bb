"""A second database beside the default one, and routers that send queries to it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from django.db import DEFAULT_DB_ALIAS, connection, connections, router
from django.test import override_settings


def without_limits(sql: str) -> str:
    """The statement itself: on MariaDB how long it may wait is a part of it."""
    return re.sub(r"^SET STATEMENT .*? FOR ", "", sql)


class Routes:
    """A router that sends everything where `read` and `write` say."""

    read: ClassVar[str] = DEFAULT_DB_ALIAS
    write: ClassVar[str] = DEFAULT_DB_ALIAS
    apps: ClassVar[frozenset[str] | None] = None
    """The apps that are sent there; ``None``: all."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return self.read if self._is_sent(model) else None

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return self.write if self._is_sent(model) else None

    def _is_sent(self, model: Any) -> bool:
        return self.apps is None or model._meta.app_label in self.apps

    @classmethod
    @contextmanager
    def sending(
        cls, *, read: str, write: str, apps: frozenset[str] | None = None
    ) -> Iterator[None]:
        routes = type("Routes", (cls,), {"read": read, "write": write, "apps": apps})
        with override_settings(DATABASE_ROUTERS=[routes()]):
            try:
                yield
            finally:
                router.__dict__.pop("routers", None)


@contextmanager
def alias(name: str, **database: Any) -> Iterator[None]:
    """Add a database under this alias; its tables are somebody else's affair."""
    connections.settings[name] = {**connection.settings_dict, **database}
    try:
        yield
    finally:
        connections[name].close()
        del connections[name]
        del connections.settings[name]


@contextmanager
def copy_of_the_default(name: str, **database: Any) -> Iterator[None]:
    """Copy the default database, which must be PostgreSQL and empty, to this alias."""
    original = str(connection.settings_dict["NAME"])
    copy = f"{original}_{name}"
    connections.close_all()
    with connection._nodb_cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{copy}" WITH (FORCE)')
        cursor.execute(f'CREATE DATABASE "{copy}" TEMPLATE "{original}"')
    try:
        with alias(name, NAME=copy, **database):
            yield
    finally:
        with connection._nodb_cursor() as cursor:
            cursor.execute(f'DROP DATABASE "{copy}" WITH (FORCE)')


@contextmanager
def packets_of(size: int) -> Iterator[None]:
    """Let MariaDB take no statement that is longer, on connections made from now on."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@GLOBAL.max_allowed_packet")
        (before,) = cursor.fetchone()
        cursor.execute("SET GLOBAL max_allowed_packet = %s", [size])
    connection.close()
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET GLOBAL max_allowed_packet = %s", [before])
        connection.close()


@contextmanager
def read_only() -> Iterator[None]:
    """Let PostgreSQL take no writes, as after a failover."""
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET default_transaction_read_only")
