"""What tells a client that its operation has ended, and where a redirect of ours leads.

Whatever stands between client and view can answer with any status: a proxy with 404, a
firewall with 451, a sign-in page with 200. Only this header says that an answer is ours.
"""

from __future__ import annotations

from typing import TypeVar

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.http import http_date

ENDED_HEADER = "Idempotency-Ended"
"""This header is ``true`` on an answer after which the client's key is used up."""

REDIRECT_HEADER = "HTTP_IDEMPOTENCY_REDIRECT"
"""``Idempotency-Redirect`` as it is in ``request.META``.

A client that sends ``tell`` can't see the headers of a redirect, as `fetch` can't.
"""

LOCATION_HEADER = "Idempotency-Location"
"""Where the redirect leads that is answered as 204 to such a client."""

EXPIRES_HEADER = "Idempotency-Expires"
"""Until when a repeat gets this answer, on each that is kept.

A date as in `Expires`, `Date` and `Sunset`, which every client of HTTP can read and
compare with the `Date` beside it; no other header of ours is a structured field either.
"""

R = TypeVar("R", bound=HttpResponseBase)


def ended(response: R, request: HttpRequest) -> R:
    """Mark the answer as the end of its operation."""
    response.headers[ENDED_HEADER] = "true"
    wants_to_know = request.META.get(REDIRECT_HEADER) == "tell"
    if wants_to_know and _leads_to_page(response, request):
        response.headers[LOCATION_HEADER] = response.headers["Location"]
        del response.headers["Location"]
        del response.headers["Content-Type"]
        response.status_code = 204
        response.content = b""  # type: ignore[attr-defined]
    return response


def left_open(response: R) -> R:
    """Take away a mark that isn't ours, such as that of a service the view has asked."""
    del response.headers[ENDED_HEADER]
    return response


def expiring(response: R, kept_until: int | None) -> R:
    """Say how long a repeat gets the answer; ``None``: it gets another one."""
    del response.headers[EXPIRES_HEADER]
    if kept_until is not None:
        response.headers[EXPIRES_HEADER] = http_date(kept_until)
    return response


def _leads_to_page(response: HttpResponseBase, request: HttpRequest) -> bool:
    """Whether a browser would go on with GET (RFC 9110, 15.4)."""
    if "Location" not in response.headers or response.streaming:
        return False
    is_post = request.method == "POST"
    return response.status_code == 303 or (
        is_post and response.status_code in (301, 302)
    )
