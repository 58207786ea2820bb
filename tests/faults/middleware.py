"""The faults' only middleware: who asks, and what the server is to suffer meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable

from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from tests.faults.plans import Fault
from tests.faults.points import Armed

__all__ = ["serve_with_faults"]


def serve_with_faults(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    def middleware(request: HttpRequest) -> HttpResponseBase:
        number = request.headers.get("X-User")
        request.user = User(pk=int(number)) if number else AnonymousUser()
        wanted = request.headers.get("X-Fault")
        if not wanted:
            return get_response(request)
        armed = Armed(Fault.of(json.loads(wanted)))
        with armed.running():
            response = get_response(request)
        if armed.fault.act == "record":
            armed.log_passed()
        return response

    return middleware
