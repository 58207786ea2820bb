"""The lab's page, the start of a run, and what is seen of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    JsonResponse,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest

from .opening import laboratory, stage
from .runs import Laboratory, Run
from .stories import GROUPS, STORIES

#: A page that has gone away is noticed when something is sent to it.
HEARTBEAT_SECONDS = 5
RECONNECT_MILLISECONDS = 1000


@require_GET
@never_cache
def page(request: HttpRequest) -> HttpResponse:
    """The lab; where there is none, the way to it."""
    where, lab = stage(), laboratory()
    if where is None or lab is None:
        if elsewhere := getattr(settings, "LAB_URL", ""):
            return redirect(elsewhere)
        return render(request, "lab/closed.html", status=503)
    run = lab.underway()
    context = {
        "groups": GROUPS,
        "stage": where,
        "underway": _located(run) if run else None,
    }
    return render(request, "lab/lab.html", context)


@require_POST
@idempotent
def start(request: IdempotentRequest) -> HttpResponse:
    """Start what the button says: 201 with the run, however often it was pressed."""
    lab = _open_laboratory()
    slug = request.POST.get("story", "")
    if slug not in STORIES:
        return JsonResponse({"detail": "There is no such button."}, status=400)
    if underway := lab.underway():
        detail = "Another run is underway, and is shown here."
        return JsonResponse({"detail": detail, **_located(underway)}, status=409)
    run = Run(slug)
    # A run that is rolled back would have been played all the same.
    transaction.on_commit(lambda: lab.start(run))
    return JsonResponse(_located(run), status=201)


@require_GET
@never_cache
def events(request: HttpRequest, run_id: UUID) -> HttpResponseBase:
    """A run's events as they happen, from the one on that the page has not seen yet."""
    run = _open_laboratory().find(str(run_id))
    if run is None:
        raise Http404
    last_seen = request.headers.get("Last-Event-ID", "")
    seen = int(last_seen) + 1 if last_seen.isdecimal() else 0
    return StreamingHttpResponse(
        _stream(run, seen), content_type="text/event-stream; charset=utf-8"
    )


def _stream(run: Run, seen: int) -> Iterator[str]:
    yield f"retry: {RECONNECT_MILLISECONDS}\n\n"
    while True:
        is_over = run.is_over
        news = run.after(seen, patience_seconds=HEARTBEAT_SECONDS)
        for number, event in enumerate(news, start=seen):
            yield f"id: {number}\ndata: {json.dumps(event)}\n\n"
        seen += len(news)
        if is_over and not news:
            yield "event: over\ndata:\n\n"
            return
        if not news:
            yield ":\n\n"


def _open_laboratory() -> Laboratory:
    lab = laboratory()
    if lab is None:
        raise Http404
    return lab


def _located(run: Run) -> dict[str, str]:
    return {
        "story": run.slug,
        "events": reverse("lab:events", args=[run.id]),
    }
