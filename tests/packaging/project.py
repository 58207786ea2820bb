"""A project of somebody who has the wheel and nothing else of ours."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers import free_port
from tests.support.servers.foreground import listens, started


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A folder with a ``manage.py``, and the Python that runs it."""

    folder: Path
    python: Path

    def write(self, name: str, text: str) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def append(self, name: str, text: str) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(text)

    def start(self) -> None:
        run(self.python, "-m", "django", "startproject", "shop", ".", cwd=self.folder)

    def manage(self, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """Run ``manage.py`` and return what it printed."""
        return run(self.python, "manage.py", *arguments, cwd=self.folder, env=env)

    @contextlib.contextmanager
    def serve(self) -> Iterator[str]:
        """Run the development server; the value is its address."""
        port = free_port()
        address = f"127.0.0.1:{port}"
        with started(
            [self.python, "manage.py", "runserver", "--noreload", address],
            log=self.folder / "server.log",
            is_ready=lambda: listens(port),
            cwd=self.folder,
            env=_clean_environment(),
        ):
            yield f"http://{address}"


def run(*program: object, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run to the end and return what was printed; a failure fails the test."""
    done = subprocess.run(  # noqa: S603 - our own program
        [str(word) for word in program],
        cwd=cwd,
        env=_clean_environment() | dict(env or {}),
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, f"{program}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _clean_environment() -> dict[str, str]:
    """Ours, without what leads Django or Python back to this checkout."""
    ours = ("COVERAGE", "DATABASE_URL", "DJANGO_", "PYTHON", "VIRTUAL_ENV")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return {**inherited, "PYTHONWARNINGS": "default"}
