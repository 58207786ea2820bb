from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client.exposition import choose_encoder

from django_idempotency.health.views import may_read

from .metrics import registry


@transaction.non_atomic_requests  # it answers without a database, too
@login_not_required  # a program has a token and no session
@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer a scrape: of all processes, if they share files."""
    if not may_read(request):
        why = "Send the token, or sign in as staff that may view both.\n"
        return HttpResponse(why, status=403, content_type="text/plain")
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry()), content_type=content_type)
