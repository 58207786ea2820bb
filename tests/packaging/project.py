"""A project of somebody who has the wheel and nothing else of ours."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


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
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        with (
            (self.folder / "server.log").open("w") as log,
            subprocess.Popen(  # noqa: S603 - our own program
                [self.python, "manage.py", "runserver", "--noreload", address],
                cwd=self.folder,
                env=_clean_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            ) as server,
        ):
            try:
                _wait_for(address, server)
                yield f"http://{address}"
            finally:
                server.terminate()


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


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    host, _, port = address.partition(":")
    end = time.monotonic() + 30
    while time.monotonic() < end and server.poll() is None:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((host, int(port))),
        ):
            return
        time.sleep(0.05)
    raise AssertionError("the server does not listen; see server.log")
