"""A real browser for the tests of this folder, which are all marked ``browser``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver.remote.webdriver import WebDriver

    OpenChromium = Callable[..., AbstractContextManager[WebDriver]]

# Rows that test the package alone don't install what drives a browser, and those of the
# browser library alone need no payment server.
collect_ignore_glob = [] if find_spec("selenium") else ["*"]
if not find_spec("localstripe"):
    collect_ignore_glob += ["lab", "shop"]

SHOP_TEST = "--host-resolver-rules=MAP shop.test 127.0.0.1"
"""An address of this machine that isn't secure, other than localhost."""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Play a folder's tests in one process: what they are played on is started once.

    xdist's own groups have no effect since pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFolder(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return nodeid.removeprefix("tests/browser/").split("/")[0].split("::")[0]

    return ByFolder(config, log)


@pytest.fixture(scope="session")
def chromium() -> Iterator[OpenChromium]:
    """What opens a browser, as often as wanted: ``with chromium(window=PHONE) as …``.

    Without the programs this is an error, never a skip.
    """
    from tests.browser.chromium import ProgramMissing, installed_programs, open_chromium

    try:
        programs = installed_programs()
    except ProgramMissing as missing:
        pytest.fail(str(missing), pytrace=False)
    with pytest.MonkeyPatch.context() as environment:
        # Selenium would ask a proxy of the environment for the driver on this machine.
        environment.setenv("no_proxy", "localhost,127.0.0.1")
        yield partial(open_chromium, programs)


@pytest.fixture(scope="session")
def desktop(chromium: OpenChromium) -> Iterator[WebDriver]:
    """One for all tests, since it takes seconds to start."""
    with chromium(SHOP_TEST) as driver:
        yield driver


@pytest.fixture(scope="session")
def phone(chromium: OpenChromium) -> Iterator[WebDriver]:
    from tests.browser.chromium import PHONE

    with chromium(SHOP_TEST, window=PHONE) as driver:
        yield driver


@pytest.fixture
def browser(request: pytest.FixtureRequest) -> Iterator[WebDriver]:
    """With fresh cookies and an empty storage; ``phone`` as a parameter is another."""
    from tests.browser.chromium import new_visit

    with new_visit(request.getfixturevalue(getattr(request, "param", "desktop"))) as it:
        yield it
