"""A health check: the numbers of the admin's page *Done once*, for programs."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.db import Error, transaction
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from django_idempotency.conf import conf
from django_idempotency.store.health import gauges
from django_idempotency.store.hours import Summary, totals_since
from django_idempotency.store.records import record_alias

DAY = timedelta(days=1)
LIMITS = ("held", "dead")
"""What a check can fail on: each waits for a person."""
VIEWS = (
    "django_idempotency.view_idempotencyrecord",
    "django_idempotency.view_processedevent",
)


@transaction.non_atomic_requests  # it says so if there is no database
@login_not_required  # a program has a token and no session
@never_cache
@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """Answer 200 with the numbers, or 503 if one that ``?fail_on=`` names isn't zero."""
    if not may_read(request):
        return _refused(403, "Send the token, or sign in as staff that may view both.")
    limits = [each for each in request.GET.get("fail_on", "").split(",") if each]
    if unknown := sorted({*limits} - {*LIMITS}):
        names = " and ".join(LIMITS)
        return _refused(400, f"fail_on takes {names}, not {', '.join(unknown)}.")
    try:
        waits = gauges()
        totals = totals_since(timezone.now() - DAY, using=record_alias())
    except Error as error:
        return _refused(503, f"The database can't be read: {type(error).__name__}.")
    broken = [each for each in limits if getattr(waits, each)]
    found: dict[str, Any] = {
        "failed_on": broken,
        "waits": asdict(waits),
        "last_24_hours": asdict(Summary.of(totals)),
    }
    return JsonResponse(found, status=503 if broken else 200)


def _refused(status: int, why: str) -> JsonResponse:
    return JsonResponse({"detail": why}, status=status)


def may_read(request: HttpRequest) -> bool:
    """Whether it has the token, or staff has sent it that may view both tables."""
    token = conf.IDEMPOTENCY_HEALTH_TOKEN
    scheme, _blank, sent = request.headers.get("Authorization", "").partition(" ")
    if token and scheme.lower() == "bearer" and constant_time_compare(sent, token):
        return True
    # A project may have no users at all.
    user = getattr(request, "user", None)
    return user is not None and user.is_staff and user.has_perms(VIEWS)
