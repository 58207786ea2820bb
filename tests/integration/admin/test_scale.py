"""However many rows there are, a page asks as often, and no statement reads them all."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import include, path

from django_idempotency.models import IdempotencyRecord
from tests.support import many

pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.django_db,
    pytest.mark.postgresql,
]

urlpatterns = [
    path("admin/", admin.site.urls),
    path("health/", include("django_idempotency.health.urls")),
]


def test_page_asks_as_often_and_reads_as_little(admin_client: Client) -> None:
    many.empty()
    pages = many.few()
    small = {name: len(many.asked(admin_client, url)) for name, url in pages.items()}
    many.fill(3 * many.MOST_READ)
    large: dict[str, int] = {}
    scans: list[Any] = []
    for name, url in pages.items():
        statements = many.asked(admin_client, url)
        large[name] = len(statements)
        for sql in statements:
            if (read := many.rows_read(sql)) > many.MOST_READ:
                scans.append((name, read, sql[:2000]))

    assert large == small
    assert min(large.values()) > 0
    assert scans == []


@pytest.mark.parametrize("ending", ["", " ORDER BY expires_at DESC LIMIT 1"])
def test_what_reads_a_whole_table_is_found(ending: str) -> None:
    """The control: without an index, or along one of something else."""
    many.empty()
    many.few()
    many.fill(2 * many.MOST_READ)
    table = IdempotencyRecord._meta.db_table

    wanted = f"SELECT id FROM {table} WHERE method = 'PUT'{ending}"  # noqa: S608
    assert many.rows_read(wanted) > many.MOST_READ
