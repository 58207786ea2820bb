"""Customers at their browsers: sessions, CSRF tokens, double clicks, lost answers."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import httpx

from .stage import Customer

__all__ = ["Answer", "Browser", "Watch", "at_once", "unwatched"]

T = TypeVar("T")

# Made once, because a client that makes its own takes longer for it than for a request.
_TLS = ssl.create_default_context()


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


#: Told the path of each request as it is sent; what it returns is told the answer, or
#: ``None`` if none came.
Watch = Callable[[str], Callable[[Answer | None], None]]


def unwatched(path: str) -> Callable[[Answer | None], None]:
    return lambda answer: None


class Browser:
    """A signed-in customer's browser."""

    #: The browser that this is another tab of; itself for the first.
    opened_from: Browser
    #: Looks over the customer's shoulder, in all tabs.
    watch: Watch

    def __init__(self, shop_url: str, cookies: httpx.Cookies | None = None) -> None:
        self.opened_from = self
        self.watch = unwatched
        # No proxy for the outside world (trust_env) may stand between us and the shop.
        self._http = httpx.Client(
            base_url=shop_url,
            cookies=cookies,
            timeout=30,
            trust_env=False,
            verify=_TLS,
        )

    @classmethod
    def signed_in(cls, shop_url: str, customer: Customer) -> Browser:
        browser = cls(shop_url)
        browser._http.get("/accounts/login/").raise_for_status()
        answer = browser.post(
            "/accounts/login/",
            data={"username": customer.name, "password": customer.password},
        )
        if answer is None or answer.status != 302:
            raise RuntimeError(f"{customer.name} can't sign in: {answer}")
        return browser

    def copy(self) -> Browser:
        """Another tab: the same session on a connection that is open already."""
        tab = Browser(str(self._http.base_url), self._http.cookies)
        tab.opened_from = self
        tab.watch = self.watch
        tab._http.get("/carts/")
        return tab

    def close(self) -> None:
        self._http.close()

    def post(
        self,
        path: str,
        *,
        data: Mapping[str, object] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        patience_seconds: float = 30,
    ) -> Answer | None:
        """Send the request; ``None`` if no answer came back in time, or at all."""
        csrf = {"X-CSRFToken": self._http.cookies["csrftoken"]}
        answered = self.watch(path)
        answer = None
        with contextlib.suppress(httpx.TransportError):
            response = self._http.post(
                path,
                data=data,
                json=json,
                headers={**csrf, **(headers or {})},
                timeout=patience_seconds,
            )
            answer = Answer(response.status_code, response.content)
        answered(answer)
        return answer


def at_once(browsers: Sequence[Browser], send: Callable[[Browser], T]) -> list[T]:
    """Send from all the browsers in the same instant."""
    barrier = threading.Barrier(len(browsers), timeout=30)

    def on_signal(browser: Browser) -> T:
        with contextlib.closing(browser.copy()) as tab:
            barrier.wait()
            return send(tab)

    pool = ThreadPoolExecutor(len(browsers))
    try:
        return list(pool.map(on_signal, browsers))
    finally:
        # Not waiting: after an interruption the threads end with their servers.
        barrier.abort()
        pool.shutdown(wait=False, cancel_futures=True)
