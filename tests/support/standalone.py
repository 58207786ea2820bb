"""What a program of the tests needs that runs without pytest."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack

__all__ = ["DURABLE", "set_up"]


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
        from example_project import devdb

        os.environ["DATABASE_URL"] = stack.enter_context(
            devdb.temporary(server_settings)
        ).url
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    django.setup()
    from django.core.management import call_command
    from django.test.utils import setup_test_environment

    setup_test_environment(debug=False)  # the host "testserver"
    call_command("migrate", run_syncdb=True, verbosity=0)
