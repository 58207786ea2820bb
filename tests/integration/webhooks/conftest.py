from collections.abc import Iterator

import pytest

from tests.integration.webhooks.receivers import scene


@pytest.fixture(autouse=True)
def _fresh_scene() -> Iterator[None]:
    scene.reset()
    yield
    # Tests of other folders use it as well.
    scene.reset()
