from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from .http import asking

__all__ = ["OutcomeMiddleware"]


class OutcomeMiddleware:
    """Lets clients that lost their answer ask what became of their request.

    A GET for the address of a protected view, with the client's key and with
    ``Idempotency-Ask: POST``, is told how that operation stands, and nothing is run. List
    it first in MIDDLEWARE, so that others judge the view as for that request.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(
        self, request: HttpRequest
    ) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._answer_later(request)
        return self._finish(request, self.get_response(request))

    async def _answer_later(self, request: HttpRequest) -> HttpResponseBase:
        return self._finish(request, await self.get_response(request))

    def process_view(
        self,
        request: HttpRequest,
        view: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> HttpResponse | None:
        return asking.begin(request, view)

    def _finish(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        """It was a GET, so also a refusal of the view's could be kept by a cache."""
        return asking.keep_from_caches(response) if asking.asks(request) else response
