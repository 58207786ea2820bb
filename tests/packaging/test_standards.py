"""The page on standards names tests that there are, and says what they have shown."""

import re
import subprocess
import sys

import pytest

from django_idempotency.conf import Settings
from tests.concurrency.standards import test_anyonce as anyonce
from tests.concurrency.standards import test_idempot as idempot

from .readme import ROOT

PAGE = (ROOT / "docs" / "reference" / "standards.md").read_text(encoding="utf-8")
SOURCES = 4
"""Tables of what others ask: of the draft, of the protocol, and two of Stripe."""

COLLECT = [sys.executable, "-m", "pytest", "--collect-only", "-q"]

Row = list[str]


def tables() -> list[list[Row]]:
    """The rows of each table whose last column names tests."""
    found = re.findall(r"^\|.*\| Test \|\n\|[ |-]+\|\n((?:\|.*\|\n)+)", PAGE, re.M)
    return [
        [re.split(r" *\| *", line.strip("| ")) for line in rows.splitlines()]
        for rows in found
    ]


def named(row: Row) -> set[str]:
    return set(re.findall(r"`([^`]+\.py::[^`]+)`", row[-1]))


ROWS = [row for table in tables() for row in table]


@pytest.mark.postgresql  # on others some of the tests can't run
def test_each_row_names_a_test_that_is_collected() -> None:
    """A name alone would show nothing: pytest has to find it."""
    assert len(tables()) == SOURCES + 1
    assert [row for row in ROWS if not named(row)] == []
    names = set().union(*map(named, ROWS))
    files = {name.partition("::")[0] for name in names}
    told = subprocess.run(  # noqa: S603 - pytest itself
        [*COLLECT, *sorted(f"tests/{each}" for each in files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.returncode == 0, told.stdout
    collected = set(re.findall(r"^tests/(\S+?::[\w:]+)", told.stdout, re.M))
    assert names - collected == set()


def test_each_row_says_whether_it_is_met() -> None:
    met = [row[-2] for table in tables()[:SOURCES] for row in table]

    assert [
        each for each in met if not re.match(r"(by|client|project)\b|no: ", each)
    ] == []


def test_settings_are_those_that_there_are() -> None:
    names = set(re.findall(r"\bIDEMPOTENCY_[A-Z_]+", PAGE))

    assert names
    assert {name for name in names if not hasattr(Settings, name)} == set()


def test_numbers_of_the_suites_are_those_of_their_tests() -> None:
    core = {name for name in anyonce.VECTORS if name.startswith("core/")}
    profile = anyonce.VECTORS.keys() - core
    scenarios = idempot.SCENARIOS.keys()
    counted = [
        [len(core), len(core - anyonce.OTHER_CODES), len(core)],
        [len(profile), len(profile - anyonce.OTHER_CODES), len(profile)],
        [len(scenarios), len(scenarios - idempot.BY_DEFAULT), len(scenarios)],
    ]

    assert [[int(each) for each in row[1:4]] for row in tables()[-1]] == counted
    assert f"idempot's other {len(idempot.BY_DEFAULT)}, " in PAGE
    assert f"{len(idempot.BY_DEFAULT - idempot.STATUSES)} have the same status" in PAGE
