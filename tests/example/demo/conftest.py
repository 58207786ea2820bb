"""The whole demo stage: real servers, real clients, counts from where things are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from example_project.demo.browsers import Browser
    from example_project.demo.ledger import Ledger
    from example_project.demo.stage import Stage

# Rows that test the package alone don't install the demo's servers.
collect_ignore_glob = [] if find_spec("localstripe") else ["test_*.py"]


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    from example_project.demo.stage import set_up

    with set_up(unprotected=False, progress=lambda step: None) as stage:
        yield stage


@pytest.fixture
def ledger(stage: Stage) -> Iterator[Ledger]:
    from example_project.demo.ledger import Ledger

    with Ledger(stage) as ledger:
        yield ledger


@pytest.fixture(scope="session")
def ada(stage: Stage) -> Iterator[Browser]:
    from example_project.demo.browsers import Browser

    with closing(Browser.signed_in(stage.shop_url, stage.customers[0])) as browser:
        yield browser
