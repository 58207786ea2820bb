"""Fixtures, for projects that test with pytest. pytest loads it; import it nowhere.

It must cost nothing where nobody uses it, as in projects without Django: everything is
imported by the fixture that needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .clients import AsyncIdempotentClient, IdempotentClient
    from .rest_framework import IdempotentAPIClient

OPTION = "idempotency_keys"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        OPTION,
        "let all test clients send an idempotency key with each unsafe request",
        type="bool",
        default=False,
    )


@pytest.fixture(scope="session", autouse=True)
def _idempotency_keys(pytestconfig: pytest.Config) -> Iterator[None]:
    """Send keys from all clients, if the project's configuration says so."""
    with ExitStack() as stack:
        if pytestconfig.getini(OPTION):
            from .clients import sending_keys

            stack.enter_context(sending_keys())
        yield


@pytest.fixture
def idempotent_client() -> IdempotentClient:
    """Django's test client; each unsafe request has a fresh key unless one is given."""
    from .clients import IdempotentClient

    return IdempotentClient()


@pytest.fixture
def async_idempotent_client() -> AsyncIdempotentClient:
    """`idempotent_client` for async tests."""
    from .clients import AsyncIdempotentClient

    return AsyncIdempotentClient()


@pytest.fixture
def idempotent_api_client() -> IdempotentAPIClient:
    """REST framework's test client, in the same way."""
    from .rest_framework import IdempotentAPIClient

    return IdempotentAPIClient()
