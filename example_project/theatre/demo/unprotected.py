"""The protected addresses with the protection taken off: the demo's negative control.

Everything else stays, the transaction and the lock on the cart included; the leased views
had no transaction. A webhook has nothing else, and becomes the naive one. If the demo were content with these, it would
prove nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponseBase
from django.urls import include, path
from django.views.decorators.http import require_POST
from rest_framework.routers import SimpleRouter

from django_idempotency.http import Idempotency
from example_project.checkout import api, views
from example_project.theatre.naive import webhooks

__all__ = ["urlpatterns"]


def unprotected(
    view: Callable[..., HttpResponseBase], *, atomic: bool = True
) -> Callable[..., HttpResponseBase]:
    """The bare view, in a transaction or not, with no key to know a repeat by."""
    bare: Callable[..., HttpResponseBase] = inspect.unwrap(view)

    @wraps(bare)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        request.idempotency = Idempotency()  # type: ignore[attr-defined]
        with transaction.atomic() if atomic else nullcontext():
            return bare(request, *args, **kwargs)

    return login_required(require_POST(wrapped))


class UnprotectedOrderViewSet(api.OrderViewSet):
    idempotency_policy = None

    def dispatch(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        with transaction.atomic():
            return super().dispatch(request, *args, **kwargs)


router = SimpleRouter()
router.register("orders", UnprotectedOrderViewSet, basename="order")

urlpatterns = [
    path("checkout/", unprotected(views.checkout)),
    path("orders/<int:order_id>/refund/", unprotected(views.refund)),
    path("leased/checkout/", unprotected(views.leased_checkout, atomic=False)),
    path(
        "leased/orders/<int:order_id>/refund/",
        unprotected(views.leased_refund, atomic=False),
    ),
    path("api/", include(router.urls)),
    path("webhooks/payments/", webhooks.payments),
    path("webhooks/direct-debits/", webhooks.direct_debits),
    path("webhooks/bookkeeping/", webhooks.bookkeeping),
    path("api/webhooks/payments/", webhooks.payments),
    path("api/webhooks/direct-debits/", webhooks.direct_debits),
    path("", include("example_project.urls")),
]
