"""The line between the browser and the shop: it counts, and it can be cut.

A browser that is told to be offline is so at once, and for every server. What loses money
is a line that is cut after the request has arrived and before the answer does.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_CHUNK = 65536
_REQUEST = re.compile(rb"POST (\S+) HTTP/1\.1\r\n")
_ANSWER = re.compile(rb"HTTP/1\.1 (\d+) ")


@dataclass(kw_only=True)
class Post:
    """A form on its way to the shop."""

    path: str
    #: ``None`` until the shop has answered.
    status: int | None = None
    is_replay: bool = False


@dataclass
class Wire:
    """Passes everything on to the shop, and closes the line where it is told to."""

    shop_url: str
    posts: list[Post] = field(default_factory=list)
    #: How many of the next answers to a form don't arrive.
    answers_to_lose: int = 0
    #: How long an answer to a form takes: longer than a second click, if that is to come.
    answer_seconds: float = 0
    _lines: list[_Line] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def open(self) -> Iterator[str]:
        """Yields the address at which the browser finds the shop."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            threading.Thread(target=self._accept, args=[listener], daemon=True).start()
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                listener.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Break all connections; those that come later are none the worse."""
        for line in self._lines:
            line.close()

    def answers(self, ending: str) -> list[tuple[int | None, bool]]:
        """Status, and whether it was a replay, of each form sent to such an address."""
        return [
            (post.status, post.is_replay)
            for post in self.posts
            if post.path.endswith(ending)
        ]

    def is_quiet(self) -> bool:
        """Whether the shop has answered every form, heard or not."""
        return all(post.status for post in self.posts)

    def _accept(self, listener: socket.socket) -> None:
        address = urlsplit(self.shop_url)
        with contextlib.suppress(OSError):
            while True:
                browser, _ = listener.accept()
                shop = socket.create_connection((address.hostname, address.port))
                line = _Line(self, browser, shop)
                self._lines.append(line)
                for work in (line.carry_requests, line.carry_answers):
                    threading.Thread(target=work, daemon=True).start()

    def note_answer(self, post: Post, *, status: int, is_replay: bool) -> bool:
        """Whether the answer may arrive."""
        with self._lock:
            post.status, post.is_replay = status, is_replay
            if is_lost := self.answers_to_lose > 0:
                self.answers_to_lose -= 1
        time.sleep(self.answer_seconds)
        return not is_lost


class _Line:
    """One connection of the browser's, and the one to the shop that belongs to it.

    Both ends speak one after the other, so that what comes from the shop answers what was
    last sent; the first piece of either holds all that is looked for.
    """

    def __init__(self, wire: Wire, browser: socket.socket, shop: socket.socket) -> None:
        self._wire, self._browser, self._shop = wire, browser, shop
        self._post: Post | None = None

    def carry_requests(self) -> None:
        with contextlib.suppress(OSError):
            while piece := self._browser.recv(_CHUNK):
                if found := _REQUEST.match(piece):
                    self._post = Post(path=found[1].decode())
                    self._wire.posts.append(self._post)
                self._shop.sendall(piece)
        if self._post is None:
            self.close()  # else the shop is still at work, as if nobody had left

    def carry_answers(self) -> None:
        with contextlib.suppress(OSError):
            while piece := self._shop.recv(_CHUNK):
                if not self._may_arrive(piece):
                    break
                with contextlib.suppress(OSError):
                    self._browser.sendall(piece)
        self.close()

    def _may_arrive(self, piece: bytes) -> bool:
        found = _ANSWER.match(piece)
        if not found or self._post is None:
            return True
        post, self._post = self._post, None
        return self._wire.note_answer(
            post,
            status=int(found[1]),
            is_replay=b"\r\nidempotency-replayed: true\r\n" in piece.lower(),
        )

    def close(self) -> None:
        for end in (self._browser, self._shop):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
