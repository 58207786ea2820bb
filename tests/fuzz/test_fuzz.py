"""A short run without a guide for each target, and its controls.

A long one: ``python -m tests.fuzz``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice

import pytest
from django.test import override_settings

from tests.fuzz.changing import changed
from tests.fuzz.running import PARTS, ROOT
from tests.fuzz.settings import MIDDLEWARE
from tests.fuzz.target import Broken, Target
from tests.fuzz.targets import TARGETS

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.fuzz.site"),
]

INPUTS = 2_000
"""Of a quick target."""
UNTIL_FOUND = 20_000
SEED = 1

PLANTS = [(name, plant) for name, each in TARGETS.items() for plant in each.plants]


@pytest.fixture(autouse=True)
def as_on_the_site() -> Iterator[None]:
    with override_settings(MIDDLEWARE=MIDDLEWARE):
        yield


def tried(target: Target, inputs: int) -> set[str]:
    return {target.run(data) for data in islice(changed(target, SEED), inputs)}


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_breaks_a_rule(name: str) -> None:
    target = TARGETS[name]
    inputs = max(50, INPUTS // PARTS[name])

    assert tried(target, inputs) >= target.outcomes


@pytest.mark.parametrize(
    ("name", "plant"), PLANTS, ids=["-".join(each) for each in PLANTS]
)
def test_planted_fault_is_found(name: str, plant: str) -> None:
    target = TARGETS[name]
    with target.plants[plant](), pytest.raises((Broken, ArithmeticError, ValueError)):
        tried(target, UNTIL_FOUND // PARTS[name])


@pytest.mark.parametrize("plant", ["", "trailing text"])
def test_guided_program_tells_what_it_has_found(plant: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        [
            *(sys.executable, "-m", "tests.fuzz", "--target", "keys", "--json"),
            *("--inputs", "5000", "--plant", plant),
        ],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=60,
    )
    found = json.loads(done.stdout)

    assert (done.returncode, len(found["faults"])) == ((1, 1) if plant else (0, 0))


def test_every_target_has_a_control() -> None:
    assert TARGETS.keys() == PARTS.keys()
    assert [name for name, each in TARGETS.items() if not each.plants] == []
