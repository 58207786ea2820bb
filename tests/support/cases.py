"""Tables of cases: what stands before the colon is the id of the test."""

from collections.abc import Mapping
from typing import Any

import pytest


def cases(names: str, table: Mapping[str, Any]) -> pytest.MarkDecorator:
    """Parametrize with the values of the table."""
    return pytest.mark.parametrize(names, list(table.values()), ids=list(table))
