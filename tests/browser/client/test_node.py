"""The tests in JavaScript, one by one, with Node's own test runner."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.test.mjs"))
INSTALL = "apt-get install --no-install-recommends nodejs"


@pytest.fixture(scope="session")
def node() -> str:
    name = os.environ.get("NODE", "node")
    if (found := shutil.which(name)) is None:
        pytest.fail(
            f"{name} is not there. Install it with `{INSTALL}`, or name another program"
            " in the environment variable NODE.",
            pytrace=False,
        )
    return found


def test_there_are_files() -> None:
    assert [file.name for file in FILES] == [
        "answers.test.mjs",
        "asking.test.mjs",
        "keys.test.mjs",
        "tries.test.mjs",
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_file_passes(node: str, file: Path) -> None:
    done = subprocess.run(  # noqa: S603 - our own files
        [node, "--test", "--test-reporter=tap", str(file)],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    counts = dict(re.findall(r"^# (\w+) (\d+)$", done.stdout, re.MULTILINE))

    assert done.returncode == 0, done.stdout + done.stderr
    assert int(counts["pass"]) == int(counts["tests"]) > 10
