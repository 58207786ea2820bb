"""Which line of the user's code is doing something."""

from __future__ import annotations

import linecache
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType

import django_idempotency
from django_idempotency.engine.idempotency import current_operation
from django_idempotency.exceptions import NoOperation

OURS = str(Path(django_idempotency.__file__).parent)
LIBRARIES = tuple(
    sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
DATABASE = ("django.db.", "contextlib", "asgiref.", "django_idempotency.testing.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the user's code."""

    file: str
    number: int
    function: str

    def __str__(self) -> str:
        code = linecache.getline(self.file, self.number).strip()
        path = Path(self.file)
        if path.is_relative_to(Path.cwd()):
            path = path.relative_to(Path.cwd())
        place = f"{path}:{self.number} in {self.function}"
        return f"{place}\n    {code}" if code else place


def is_of_the_package() -> bool:
    """Whether the package itself runs the statement that is being executed."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _module_of(frame).startswith(DATABASE):
        frame = frame.f_back
    return frame is not None and _module_of(frame).startswith("django_idempotency.")


def is_in_operation() -> bool:
    """Whether protected work is running in this thread."""
    try:
        current_operation()
    except NoOperation:
        return False
    return True


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def line_of_user(outermost: CodeType) -> Line | None:
    """Return the innermost line of the user's code within a call of this function."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not outermost:
        code = frame.f_code
        if _is_of_user(code.co_filename):
            return Line(
                file=code.co_filename, number=frame.f_lineno, function=code.co_qualname
            )
        frame = frame.f_back
    return None


def _is_of_user(file: str) -> bool:
    return not (
        file.startswith(("<frozen", OURS, *LIBRARIES))
        or "site-packages" in file
        or "dist-packages" in file
    )
