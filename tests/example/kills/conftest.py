"""The shop in processes that are killed, and all that it works with, once per module."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.example.kills.processes import Town

# Rows that test the package alone don't install the payment server.
collect_ignore_glob = [] if find_spec("localstripe") else ["test_*.py"]


@pytest.fixture(scope="module")
def town(django_db_setup: None) -> Iterator[Town]:
    from tests.example.kills.processes import set_up

    with set_up() as town:
        yield town
