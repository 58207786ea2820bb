"""A key that is printed into a page: whose it is, and that no cache keeps the page."""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from inspect import iscoroutine
from typing import Any, TypeVar

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware, get_token
from django.utils.cache import patch_cache_control

from django_idempotency.core.keys import fresh_key, fresh_page_key

from .middleware import has_middleware
from .notes import notes_of

R = TypeVar("R")

# Note [What tells two guests apart]
#
# All guests are one principal. What the browser of each of them has, and no other one,
# is the secret of its CSRF token. Django puts it into request.META, whether it is kept in
# a cookie or in the session, before any view and also for views that are exempt from the
# check. It changes when somebody signs in, and isn't a guest any more.


def browser_of_page(request: HttpRequest) -> str | None:
    """Return the secret of the browser that gets the page; a new one gets one.

    ``None``: nothing sends it to the browser, so it would not come back.
    """
    # Whatever becomes of it, Django's CSRF middleware now marks the page as varying by
    # cookie.
    get_token(request)
    # Set by @csrf_protect and the like, which send it as well.
    is_decorated = getattr(request, "csrf_processing_done", False)
    is_sent = is_decorated or has_middleware(CsrfViewMiddleware)
    return request.META["CSRF_COOKIE"] if is_sent else None


def browser_of_post(request: HttpRequest) -> str:
    """Return the secret that the browser has sent; empty if it sent none."""
    if "CSRF_COOKIE" not in request.META:
        # Without the middleware, where @csrf_protect stands below us: it does just this.
        _csrf.process_request(request)
    secret: str = request.META.get("CSRF_COOKIE", "")
    return secret


_csrf = CsrfViewMiddleware(lambda request: HttpResponse())


def note_key_in_page(request: Any, *, is_fresh: bool) -> None:
    """Note that the answer to this request must not be shown to anybody else.

    Nor, with a fresh key, a second time to the same person: what they buy next would be
    taken for what they have bought before. `request` may be a framework's wrapper.
    """
    directives = {"private": True, "no_store": True} if is_fresh else {"private": True}
    django_request: HttpRequest = getattr(request, "_request", request)
    notes_of(django_request).cache_control.update(directives)
    requests: tuple[Any, ...] = (request, django_request)
    for each in requests:
        # Where Django's own cache, of a view or the site, notes whether to keep a page.
        # A header would come too late for a cache_page that stands below us, and there is
        # none where the view isn't decorated.
        each._cache_update_cache = False


def fresh_key_for(request: HttpRequest) -> str:
    """Return a new key for the page that answers the request, and let no cache keep it."""
    note_key_in_page(request, is_fresh=True)
    browser = browser_of_page(request)
    return fresh_key() if browser is None else fresh_page_key(browser)


def keep_from_caches(request: HttpRequest, answer: R) -> R:
    """Return a view's answer with a Cache-Control that suits the keys in it, if any.

    What the view itself has said stays where it is stricter. An answer that isn't
    rendered yet gets it then; that of an async view, when it is awaited.
    """
    if isinstance(answer, HttpResponseBase):
        if getattr(answer, "is_rendered", True):
            _restrict(request, answer)
        else:
            callback = partial(_restrict, request)
            answer.add_post_render_callback(callback)  # type: ignore[attr-defined]
    elif iscoroutine(answer):
        return _keep_later(request, answer)  # type: ignore[return-value]
    return answer


async def _keep_later(request: HttpRequest, answer: Coroutine[Any, Any, Any]) -> Any:
    return keep_from_caches(request, await answer)


def _restrict(request: HttpRequest, response: HttpResponseBase) -> None:
    if directives := notes_of(request).cache_control:
        patch_cache_control(response, **directives)
