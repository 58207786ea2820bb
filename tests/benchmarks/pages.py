"""Program: what the admin's pages and the health check ask on tables of any size.

    python -m tests.benchmarks.pages --rows 1000000 --json

So many records, events and links are added by the database itself. Then each page is
opened as with a few rows: how many statements it sends, how many rows the largest of them
reads, and how long the page takes.
"""

import sys
import time
from typing import Any

from tests.benchmarks.harness import run


def main() -> int:
    return run(__doc__, {"rows": 1_000_000}, measured)


def measured(*, rows: int) -> dict[str, Any]:
    from django.contrib.auth.models import User
    from django.test import Client
    from django.test.utils import override_settings

    from tests.support import many

    client = Client()
    client.force_login(User.objects.create_superuser("grace"))
    with override_settings(ROOT_URLCONF="tests.integration.admin.test_scale"):
        pages = many.few()
        few = {name: len(many.asked(client, url)) for name, url in pages.items()}
        started = time.perf_counter()
        many.fill(rows)
        filled = time.perf_counter() - started
        found: dict[str, Any] = {}
        for name, url in pages.items():
            statements = many.asked(client, url)
            begun = time.perf_counter()
            client.get(url)
            found[name] = {
                "ms": round((time.perf_counter() - begun) * 1000),
                "statements": len(statements),
                "statements_with_few_rows": few[name],
                "most_rows_read": max(map(many.rows_read, statements)),
            }
    return {
        "rows": rows,
        "seconds_to_fill": round(filled, 1),
        "pages": found,
        "goals": {"most_rows_read": many.MOST_READ, "more_statements": 0},
        "broken": [
            name
            for name, page in found.items()
            if page["most_rows_read"] > many.MOST_READ
            or page["statements"] != page["statements_with_few_rows"]
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
