"""The whole demo stage: real servers, real clients, counts from where things are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from example_project.theatre.demo.browsers import Browser
    from example_project.theatre.demo.ledger import Ledger
    from example_project.theatre.demo.stage import Stage


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    from example_project.theatre.demo.stage import set_up

    with set_up(unprotected=False, progress=lambda step: None) as stage:
        yield stage


@pytest.fixture
def ledger(stage: Stage) -> Iterator[Ledger]:
    from example_project.theatre.demo.ledger import Ledger

    with Ledger(stage) as ledger:
        yield ledger


@pytest.fixture(scope="session")
def ada(stage: Stage) -> Iterator[Browser]:
    from example_project.theatre.demo.browsers import Browser

    with closing(Browser.signed_in(stage.shop_url, stage.customers[0])) as browser:
        yield browser
