"""What shall go wrong in the site's processes, told by files in a folder.

``lose``: half of the answer arrives, after the commit.
``drop``: nothing of it does. That can't tell what the *library* does: the browser itself
sends a POST again if it had opened the connection in advance.
``replace``: something in front of the site answers 404 in place of it, after the commit.
"""

import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.wsgi import get_wsgi_application

VARIABLE = "SCENE"
"""Environment variable of the site's processes: the folder."""

PREFIX = "/app"
"""What the proxy in front strips from the path, without telling."""

HALF_AN_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"


@dataclass(frozen=True, slots=True)
class Scene:
    folder: Path

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


def played() -> Callable[..., Iterable[bytes]]:
    """The site, whose answers can get lost after they were made, behind a proxy."""
    django = get_wsgi_application()
    scene = Scene(Path(os.environ[VARIABLE]))

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(PREFIX)
        if environ["REQUEST_METHOD"] == "POST" and scene.happens("replace"):
            return replaced(django(environ, lambda *ignored: bytes), start_response)
        answer: Iterable[bytes] = django(environ, start_response)
        if environ["REQUEST_METHOD"] == "POST":
            if is_half := scene.happens("lose"):
                environ["gunicorn.socket"].sendall(HALF_AN_ANSWER)
            if is_half or scene.happens("drop"):
                environ["gunicorn.socket"].shutdown(socket.SHUT_RDWR)
        return answer

    return application


def replaced(answer: Any, start_response: Any) -> list[bytes]:
    answer.close()
    start_response("404 Not Found", [("Content-Type", "text/html")])
    return [b"There is no such page."]
