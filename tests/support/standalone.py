"""What a program of the tests needs that runs without pytest."""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
"""PostgreSQL's own defaults, which a temporary server doesn't have."""


def set_up(
    stack: ExitStack, settings: str, *, server_settings: Mapping[str, str] | None = None
) -> None:
    """Start Django with these settings and empty tables.

    They are in ``DATABASE_URL``, or else in a temporary PostgreSQL that lives as long as
    the stack and has these settings of its own.
    """
    import django

    if "DATABASE_URL" not in os.environ:
        from tests.support.servers import postgresql

        os.environ["DATABASE_URL"] = stack.enter_context(
            postgresql.temporary(server_settings)
        ).url
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    django.setup()
    from django.core.management import call_command
    from django.test.utils import setup_test_environment

    setup_test_environment(debug=False)  # the host "testserver"
    call_command("migrate", run_syncdb=True, verbosity=0)


def write(figures: Mapping[str, Any], *, as_json: bool, indent: int = 0) -> None:
    """Print what a program has found."""
    if as_json:
        sys.stdout.write(json.dumps(figures) + "\n")
        return
    for name, figure in figures.items():
        label = " " * indent + name.replace("_", " ")
        if isinstance(figure, Mapping):
            sys.stdout.write(f"{label}\n")
            write(figure, as_json=False, indent=indent + 2)
        else:
            sys.stdout.write(f"{label:<36}{figure}\n")
