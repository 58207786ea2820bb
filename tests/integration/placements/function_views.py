"""Function views, alone and among the decorators that one meets."""

from __future__ import annotations

from django.contrib.auth.decorators import (
    login_required,
    permission_required,
    user_passes_test,
)
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_POST

from django_idempotency.decorators import idempotent

from .orders import order
from .placement import Placement


@idempotent
def calls_another(request: HttpRequest) -> HttpResponse:
    return idempotent(order)(request)


PLACEMENTS = [
    Placement(name="function", view=idempotent(order)),
    Placement(name="function-with-options", view=idempotent(max_body=10_000)(order)),
    Placement(
        name="below-login-required",
        view=login_required(idempotent(order)),
        refuses_anonymous=302,
    ),
    Placement(
        name="below-permission-required",
        view=permission_required("testapp.add_order")(idempotent(order)),
        refuses_anonymous=302,
        refuses_unpermitted=302,
    ),
    Placement(
        name="below-permission-required-that-raises",
        view=permission_required("testapp.add_order", raise_exception=True)(
            idempotent(order)
        ),
        refuses_anonymous=403,
        refuses_unpermitted=403,
    ),
    Placement(
        name="below-user-passes-test",
        view=user_passes_test(lambda user: user.has_perm("testapp.add_order"))(
            idempotent(order)
        ),
        refuses_anonymous=302,
        refuses_unpermitted=302,
    ),
    Placement(name="below-csrf-exempt", view=csrf_exempt(idempotent(order))),
    Placement(name="above-csrf-exempt", view=idempotent(csrf_exempt(order))),
    Placement(
        name="below-atomic", view=transaction.atomic(idempotent(order)), joins="always"
    ),
    Placement(name="above-atomic", view=idempotent(transaction.atomic(order))),
    Placement(name="below-never-cache", view=never_cache(idempotent(order))),
    Placement(name="above-never-cache", view=idempotent(never_cache(order))),
    Placement(name="below-gzip-page", view=gzip_page(idempotent(order))),
    Placement(name="above-gzip-page", view=idempotent(gzip_page(order))),
    Placement(name="below-require-post", view=require_POST(idempotent(order))),
    Placement(name="above-require-post", view=idempotent(require_POST(order))),
    Placement(name="stacked", view=idempotent(idempotent(order))),
    Placement(name="calls-another", view=calls_another),
]
