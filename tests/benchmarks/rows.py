"""Many records at once, and what the database says of their table."""

import uuid
from typing import Any

from django.db import connection

from django_idempotency.models import IdempotencyRecord
from tests.benchmarks.harness import post

TABLE = IdempotencyRecord._meta.db_table


def asked(sql: str, *parameters: Any) -> Any:
    """The first column of the first row."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        row = cursor.fetchone() if cursor.description else (None,)
        return row[0]


def fill(rows: int, *, expires: str) -> None:
    """Add copies of an answered record under other ids; `expires` is an SQL interval."""
    post("/protected/", b'{"amount": 5}', {"Idempotency-Key": str(uuid.uuid4())})
    names = [str(field.column) for field in IdempotencyRecord._meta.concrete_fields]
    values = {
        "id": "gen_random_uuid()",
        "key": "gen_random_uuid()::text",
        "expires_at": f"now() + interval '{expires}' + n * interval '1 microsecond'",
    }
    asked(
        f"INSERT INTO {TABLE} ({', '.join(names)})"  # noqa: S608
        f" SELECT {', '.join(values.get(name, name) for name in names)}"
        f" FROM (SELECT * FROM {TABLE} LIMIT 1) AS one, generate_series(1, %s) AS n",
        rows,
    )
    asked(f"VACUUM ANALYZE {TABLE}")
    asked("CHECKPOINT")


def sizes() -> dict[str, int]:
    """Bytes of the table, of what is stored beside it and of each index."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexrelid::regclass::text, pg_relation_size(indexrelid)"
            " FROM pg_index WHERE indrelid = %s::regclass",
            [TABLE],
        )
        indexes = dict(cursor.fetchall())
    return {
        "table": asked("SELECT pg_relation_size(%s::regclass)", TABLE),
        "beside_it": asked(
            "SELECT pg_table_size(%s::regclass) - pg_relation_size(%s::regclass)",
            TABLE,
            TABLE,
        ),
        **indexes,
    }
