"""The site's pages and the views that they post to; also a URLconf.

An order is one execution that was committed.
"""

from __future__ import annotations

import json
import re
from collections import namedtuple
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from django.contrib.auth.decorators import login_required
from django.contrib.contenttypes.models import ContentType
from django.contrib.staticfiles.views import serve
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template import engines
from django.urls import path
from django.views.decorators.csrf import ensure_csrf_cookie

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from tests.browser.client.scene import Scene
from tests.concurrency.storm import go_through_the_gate
from tests.integration.saving import site
from tests.testapp.models import Order

__all__ = [
    "fresh_content_types",
    "gate_before_the_admin",
    "strict_csp",
    "urlpatterns",
]

FENCED = re.MULTILINE | re.DOTALL
POLICY = "default-src 'none'; connect-src 'self'; form-action 'self'; script-src 'self'"

Cart = namedtuple("Cart", "pk")

GetResponse = Callable[[HttpRequest], HttpResponse]


def strict_csp(get_response: GetResponse) -> GetResponse:
    """Middleware: forbid what isn't in a file of this site."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if not request.path.startswith("/admin/"):
            response.headers["Content-Security-Policy"] = POLICY
        return response

    return middleware


def fresh_content_types(get_response: GetResponse) -> GetResponse:
    """Middleware: between two tests all tables are emptied, and types renumbered."""

    def middleware(request: HttpRequest) -> HttpResponse:
        ContentType.objects.clear_cache()
        return get_response(request)

    return middleware


def gate_before_the_admin(get_response: GetResponse) -> GetResponse:
    """Middleware: let posts to the admin meet at the gate."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.method == "POST" and request.path.startswith("/admin/"):
            go_through_the_gate()
        return get_response(request)

    return middleware


def turns(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(Scene.of_this_process().count("turn")))


@ensure_csrf_cookie
def page(request: HttpRequest) -> HttpResponse:
    return render(request, "pay.html")


DOCUMENTED = (Path(__file__).parents[3] / "docs/howto/browser.md").read_text()


def documented(language: str) -> str:
    """The code in that language on the page of the documentation."""
    [code] = re.findall(rf"^```{re.escape(language)}\n(.*?)^```", DOCUMENTED, FENCED)
    return str(code)


def documented_page(request: HttpRequest) -> HttpResponse:
    template = engines["django"].from_string(documented("html+django"))
    return HttpResponse(template.render({"cart": Cart(pk=7)}, request))


def documented_script(request: HttpRequest) -> HttpResponse:
    return HttpResponse(documented("js"), content_type="text/javascript")


@idempotent
def checkout(request: IdempotentRequest) -> HttpResponse:
    order = Order.objects.create(amount=json.loads(request.body)["cart"])
    return JsonResponse({"url": f"/orders/{order.pk}/"}, status=201)


def order_page(request: HttpRequest, pk: int) -> HttpResponse:
    return HttpResponse(f"<!doctype html><title>Order {pk}</title>Thank you!")


def sign_in(request: HttpRequest) -> HttpResponse:
    return HttpResponse("<!doctype html><title>Sign in</title>")


def place(request: HttpRequest) -> HttpResponse:
    go_through_the_gate()
    wanted = json.loads(request.body)
    order = Order.objects.create(amount=wanted["cart"])
    if Scene.of_this_process().happens("fail"):
        raise RuntimeError("This was to be expected.")
    if wanted["card"] == "declined":
        return JsonResponse({"declined": order.pk}, status=402)
    return JsonResponse({"order": order.pk}, status=201)


@idempotent(wait=timedelta(seconds=20))
def orders(request: IdempotentRequest) -> HttpResponse:
    return place(request)


@idempotent(wait=timedelta(0))
def impatient_orders(request: IdempotentRequest) -> HttpResponse:
    return place(request)


@login_required
@idempotent
def members_orders(request: IdempotentRequest) -> HttpResponse:
    return place(request)


urlpatterns = [
    path("", page),
    path("login/", sign_in),
    path("orders/", orders),
    path("orders/<int:pk>/", order_page),
    path("impatient/", impatient_orders),
    path("members/", members_orders),
    path("turns/", turns),
    path("admin/", site.urls),
    path("documented/", documented_page),
    path("checkout/", checkout),
    path("static/shop/pay.js", documented_script),
    path("static/<path:path>", serve, {"insecure": True}),
]
