"""What every group of tests shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from django.db import connection

from tests import pgbouncer

# What goes through every combination; most rows of the test matrix leave it out.
EXHAUSTIVE = [
    Path(__file__).parent / place
    for place in (
        "integration/checks",
        "integration/leased",
        "integration/placements",
        "integration/rest",
        "integration/test_admin_unfold.py",
        "integration/test_bad_input.py",
        "integration/test_fingerprint.py",
        "integration/test_kept_failures.py",
        "integration/test_key_transport.py",
        "integration/test_principals.py",
        "integration/test_side_effects.py",
        "integration/webhooks",
        "unit/test_fingerprints.py",
        "unit/test_keys.py",
        "unit/webhooks",
    )
]
# To collect it three times, only to deselect it, would take as long as the rest to run.
collect_ignore = EXHAUSTIVE if os.environ.get("EXHAUSTIVE") == "no" else []


@pytest.hookimpl(tryfirst=True)  # before expressions of markers are applied
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Mark what is exhaustive, and deselect what the database can't run.

    Deselected, not skipped: a skip in the summary should always be a surprise.
    """
    for item in items:
        if any(item.path.is_relative_to(place) for place in EXHAUSTIVE):
            item.add_marker("exhaustive")
    _deselect(config, items, _unsuitable_markers())


def _unsuitable_markers() -> set[str]:
    """The markers of what can't run on this database."""
    match connection.vendor:
        case "postgresql":
            return {
                "mariadb",
                "direct" if pgbouncer.is_between() else "behind_pgbouncer",
            }
        case "mysql":
            return {"postgresql", "behind_pgbouncer", "deferred_constraints"}
        case _:
            return {"postgresql", "behind_pgbouncer", "mariadb"}


def _deselect(
    config: pytest.Config, items: list[pytest.Item], markers: set[str]
) -> None:
    unsuitable = {
        item for item in items if markers & {mark.name for mark in item.iter_markers()}
    }
    if unsuitable:
        config.hook.pytest_deselected(items=list(unsuitable))
        items[:] = [item for item in items if item not in unsuitable]
