"""What others take from the README by machine is there and has the form they expect."""

from __future__ import annotations

import re
import shlex

import pytest

from .readme import README, ROOT, block

COMMANDS = ["command: demo", "command: test"]


@pytest.mark.parametrize("marker", COMMANDS)
def test_command_is_one_line(marker: str) -> None:
    assert block(marker).count("\n") == 1


@pytest.mark.parametrize("marker", COMMANDS)
def test_command_needs_nothing_but_python_and_a_checkout(marker: str) -> None:
    programs = [part.split()[0] for part in block(marker).split("&&")]

    assert programs == ["python3", ".venv/bin/pip", ".venv/bin/tox"]


@pytest.mark.parametrize("marker", COMMANDS)
def test_command_is_whole(marker: str) -> None:
    assert shlex.split(block(marker))


def test_local_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)

    missing = [target for target in targets if not (ROOT / target).exists()]

    assert targets
    assert missing == []
