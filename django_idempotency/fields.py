"""Fields and functions that some databases need in another form than Django's."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Now
from django.utils.timezone import (
    get_default_timezone,
    is_aware,
    make_aware,
    make_naive,
)

if TYPE_CHECKING:
    from django.db.models.sql.compiler import SQLCompiler

__all__ = ["DigestField", "JSONText", "MomentField", "UtcNow"]


if TYPE_CHECKING:
    UUIDField = models.UUIDField[str | uuid.UUID, uuid.UUID]
    DateTimeField = models.DateTimeField[Any, Any]
    TextField = models.TextField[Any, Any]
else:
    UUIDField = models.UUIDField
    DateTimeField = models.DateTimeField
    TextField = models.TextField


def with_zone(moment: datetime) -> datetime:
    """Return the moment; without a zone, what the project's clocks show is meant.

    Whoever reads it: not those of the zone that is active at the time.
    """
    return moment if is_aware(moment) else make_aware(moment, get_default_timezone())


class DigestField(UUIDField):
    """A UUID of version 8, as text on MariaDB.

    MariaDB's own UUID type refuses one in 64 of them, those with 80 in the ninth byte.
    `uuid8` makes none of those; the column doesn't rely on it.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        if connection.vendor == "mysql":  # pragma: no cover - MariaDB
            return "char(32)"
        return super().db_type(connection)

    def get_db_prep_value(
        self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False
    ) -> Any:
        prepared_value = super().get_db_prep_value(value, connection, prepared)
        if connection.vendor == "mysql":  # pragma: no cover - MariaDB
            is_native = isinstance(prepared_value, uuid.UUID)
            return prepared_value.hex if is_native else prepared_value
        return prepared_value


class JSONText(TextField):
    """JSON as text, in which it comes back as it was written.

    A database's own JSON changes numbers, the order of names and some characters, or
    refuses them.
    """

    def from_db_value(self, value: str | None, *args: Any) -> Any:
        return self.to_python(value)

    def to_python(self, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value

    def get_prep_value(self, value: Any) -> Any:
        return None if value is None else json.dumps(value)

    def value_to_string(self, obj: models.Model) -> str:
        return str(self.get_prep_value(self.value_from_object(obj)))


class MomentField(DateTimeField):
    """A moment, which is stored in UTC whatever the project's settings are.

    Where the database has no time zones, Django stores what the clocks of the project or
    of the connection's own `TIME_ZONE` show. But the claims write the database's clock,
    in UTC, and an hour that comes twice a year would make a lease or a retention wrong.
    """

    def get_db_prep_value(
        self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False
    ) -> Any:
        if not prepared:
            value = self.get_prep_value(value)
        if isinstance(value, datetime) and not connection.features.supports_timezones:
            moment = with_zone(value)
            # Always to six digits, as the claims write it: SQLite compares the text.
            naive = moment.astimezone(UTC).replace(tzinfo=None)
            return naive.isoformat(" ", "microseconds")
        return super().get_db_prep_value(value, connection, prepared=True)

    def from_db_value(
        self, value: Any, expression: object, connection: BaseDatabaseWrapper
    ) -> Any:
        if value is None or connection.features.supports_timezones:
            return value
        moment = value.replace(tzinfo=UTC)
        # Not the zone that somebody has activated: whoever reads gets the same.
        return moment if settings.USE_TZ else make_naive(moment, get_default_timezone())


class UtcNow(Now):
    """The database's clock in UTC; on MariaDB `Now` uses the session's time zone."""

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> tuple[str, Any]:
        # With as many digits as a parameter has: SQLite compares times as text.
        template = "STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f000', 'NOW')"
        return self.as_sql(compiler, connection, template=template, **context)

    def as_mysql(  # pragma: no cover - MariaDB
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> tuple[str, Any]:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **context)
