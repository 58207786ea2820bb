"""The two kinds of view that can be protected, as `protect()` wants them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from .protection import Answer

__all__ = ["PlainView", "RestView"]


@dataclass(frozen=True, slots=True)
class PlainView:
    """A function view, or a handler method of a class-based one."""

    request: HttpRequest
    call: Callable[[], HttpResponseBase]

    def run(self) -> Answer:
        return Answer(rendered(self.call()))

    def check_replay(self) -> None:
        """Access checks stand outside and have spoken."""


class RestView:
    """A handler of a REST framework view; the framework itself is not imported.

    The view's own `finalize_response` and `handle_exception` are called here, inside the
    transaction: what is kept are the bytes that the client gets. Once the response is
    final, they are shadowed on the instance, since `dispatch` will call them again.
    """

    def __init__(self, view: Any, request: Any, call: Callable[[], Any]) -> None:
        self.view = view
        self.request = request
        self.call = call

    def run(self) -> Answer:
        raised = None
        try:
            response = self.call()
        except Exception as error:
            raised = error
            response = self._handled(error)
        response = self.view.finalize_response(
            self.request, response, *self.view.args, **self.view.kwargs
        )
        return Answer(rendered(response), raised)

    def check_replay(self) -> None:
        """Nothing to ask by default: the view's `initial()` has spoken."""

    def finish(self, response: HttpResponseBase) -> HttpResponseBase:
        """Return the response to `dispatch`, which must leave it as it is."""
        self.view.finalize_response = _unchanged
        return response

    def _handled(self, error: Exception) -> Any:
        try:
            return self.view.handle_exception(error)
        except Exception:
            self.view.handle_exception = _reraise
            raise


def rendered(response: Any) -> Any:
    """Render a template or framework response, inside the transaction."""
    if not getattr(response, "is_rendered", True):
        response.render()
    return response


def _unchanged(
    request: Any, response: HttpResponseBase, *args: Any, **kwargs: Any
) -> HttpResponseBase:
    return response


def _reraise(error: Exception) -> NoReturn:
    raise error
