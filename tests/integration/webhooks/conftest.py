import pytest

from tests.integration.webhooks.receivers import scene


@pytest.fixture(autouse=True)
def _fresh_scene() -> None:
    scene.reset()
