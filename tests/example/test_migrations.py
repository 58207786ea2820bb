"""Migrations of the shop that find rows."""

from collections.abc import Iterator

import pytest
from django.apps.registry import Apps
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

pytestmark = pytest.mark.django_db(transaction=True)


def migrate_to(name: str) -> Apps:
    target = [("checkout", name)]
    executor = MigrationExecutor(connection)
    executor.migrate(target)
    return executor.loader.project_state(target).apps


@pytest.fixture(autouse=True)
def back_at_the_newest() -> Iterator[None]:
    yield
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


def test_carts_that_are_there_get_tokens_of_their_own() -> None:
    before = migrate_to("0003_leased")
    user = before.get_model("auth", "User").objects.create(username="ada")
    for _ in range(3):
        before.get_model("checkout", "Cart").objects.create(user=user)

    after = migrate_to("0004_guests")

    carts = after.get_model("checkout", "Cart").objects
    assert len(set(carts.values_list("token", flat=True))) == 3
