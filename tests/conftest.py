"""What every group of tests shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connection

if TYPE_CHECKING:
    import pytest


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Deselect what needs PostgreSQL where the database is another one.

    Deselected, not skipped: a skip in the summary should always be a surprise.
    """
    if connection.vendor == "postgresql":
        return
    needs_postgresql = [item for item in items if item.get_closest_marker("postgresql")]
    if needs_postgresql:
        config.hook.pytest_deselected(items=needs_postgresql)
        items[:] = [item for item in items if item not in set(needs_postgresql)]
