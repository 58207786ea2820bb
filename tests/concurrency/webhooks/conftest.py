from __future__ import annotations

import pytest

from tests.concurrency.webhooks.receivers import scene


@pytest.fixture(autouse=True)
def _fresh_receivers() -> None:
    scene.reset()
