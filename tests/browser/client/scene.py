"""What shall go wrong in the site's processes, told by files in a folder.

``fail``: the view raises, after it has written.
``lose``: half of the answer arrives, after the commit.
``drop``: nothing of it does. That can't tell what the *library* does: the browser itself
sends a POST again if it had opened the connection in advance.
``turn``: the page may click once more.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["VARIABLE", "Scene"]

VARIABLE = "SCENE"
"""Environment variable of the site's processes: the folder."""


@dataclass(frozen=True, slots=True)
class Scene:
    folder: Path

    @classmethod
    def of_this_process(cls) -> Scene:
        return cls(Path(os.environ[VARIABLE]))

    def next(self, event: str, times: int = 1) -> None:
        """Let the next requests that may meet this event do so, each once."""
        so_far = self.count(event)
        for number in range(so_far, so_far + times):
            (self.folder / f"{event}-{number}").touch()

    def happens(self, event: str) -> bool:
        """Whether it is this request's turn; one file is one turn, in any process."""
        for file in self.folder.glob(f"{event}-*"):
            try:
                file.unlink()
            except FileNotFoundError:
                continue
            return True
        return False

    def count(self, event: str) -> int:
        return len(list(self.folder.glob(f"{event}-*")))

    def clear(self) -> None:
        for file in self.folder.iterdir():
            file.unlink()
