"""What every group of tests shares."""

from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from django_idempotency.conf import conf
from tests.support import citus, galera, pgbouncer

# Which places have which markers. What runs in a row of the test matrix is said with
# these and `-m`, and in no other way.
PLACES = {
    "browser": ["browser"],
    "concurrency": [
        "concurrency",
        "example/test_checkout_with_webhook.py",
        "example/test_devdb.py",
        "faults",
    ],
    "crashes": ["concurrency/webhooks/test_crashes.py"],
    "database": [
        "concurrency",
        "integration/admin",
        "integration/claims",
        "integration/databases",
        "integration/leased",
        "integration/tasks",
        "integration/transactions",
        "integration/upkeep",
        "integration/webhooks",
    ],
    "demo": ["example/demo", "example/kills", "example/test_schema.py"],
    "differential": ["integration/webhooks/test_differential.py"],
    "exhaustive": [
        "integration/admin/test_unfold.py",
        "integration/answers/test_kept_failures.py",
        "integration/answers/test_success_is_committed.py",
        "integration/checks",
        "integration/keys",
        "integration/leased",
        "integration/placements",
        "integration/rest",
        "integration/transactions/test_side_effects.py",
        "integration/webhooks",
        "unit/test_fingerprints.py",
        "unit/test_keys.py",
        "unit/webhooks",
    ],
    "fuzz": ["fuzz"],
    "packaging": [
        "packaging/test_mutations.py",
        "packaging/test_tutorial.py",
        "packaging/test_types.py",
        "packaging/test_wheel.py",
    ],
    "programs": [
        "example/test_layout.py",
        "integration/admin/test_unfold.py",
        "integration/claims/test_state_machine.py",
        "integration/tasks/test_celery.py",
        "integration/upkeep/test_purge_program.py",
        "packaging/test_metadata.py",
        "packaging/test_standards.py",
    ],
    "unit": ["unit"],
    "versions": [
        "integration/admin",
        "integration/forms",
        "integration/ninja",
        "integration/rest",
    ],
}
SLOW = {
    "browser",
    "concurrency",
    "demo",
    "differential",
    "exhaustive",
    "fuzz",
    "packaging",
}
HERE = Path(__file__).parent


def _markers_of(path: Path) -> set[str]:
    return {
        marker
        for marker, places in PLACES.items()
        if any(path.is_relative_to(HERE / place) for place in places)
    }


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave alone where nothing can be selected: importing it takes as long as the rest.

    Understands what rows of the matrix ask for: ``quick and not unit``.
    """
    markers = _markers_of(collection_path)
    expression = config.option.markexpr
    if "(" in expression or " or " in expression:
        return None
    excluded = {"not " + marker for marker in markers}
    if markers & SLOW:
        excluded.add("quick")
    if collection_path.is_file():
        excluded |= PLACES.keys() - markers
    return True if excluded & set(expression.split(" and ")) else None


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """Where there is Citus, let it know the tables."""
    if citus.is_used():
        with django_db_blocker.unblock():
            citus.arrange(connection)


@pytest.hookimpl(tryfirst=True)  # before expressions of markers are applied
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Mark by place, and deselect what the database can't run.

    Deselected, not skipped: a skip in the summary should always be a surprise.
    """
    for item in items:
        for marker in _markers_of(item.path):
            item.add_marker(marker)
        if not SLOW & {marker.name for marker in item.iter_markers()}:
            item.add_marker("quick")
    _deselect(config, items, _unsuitable_markers())


def _unsuitable_markers() -> set[str]:
    """The markers of what can't run on this database."""
    match connection.vendor:
        case "postgresql":
            return {
                *("mariadb", "galera"),
                "direct" if pgbouncer.is_between() else "behind_pgbouncer",
                *(["one_server"] if conf.IDEMPOTENCY_DISTRIBUTED else []),
                *([] if citus.is_used() else ["citus"]),
            }
        case "mysql":
            others = {"postgresql", "behind_pgbouncer", "citus", "deferred_constraints"}
            return others if galera.running else others | {"galera"}
        case _:
            return {"postgresql", "behind_pgbouncer", "citus", "mariadb", "galera"}


def _deselect(
    config: pytest.Config, items: list[pytest.Item], markers: set[str]
) -> None:
    unsuitable = {
        item for item in items if markers & {mark.name for mark in item.iter_markers()}
    }
    if unsuitable:
        config.hook.pytest_deselected(items=list(unsuitable))
        items[:] = [item for item in items if item not in unsuitable]
