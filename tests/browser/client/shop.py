"""The site's pages and the views that they post to; also a URLconf.

An order is one execution that was committed.
"""

import json
import re
from collections import namedtuple
from collections.abc import Callable
from datetime import timedelta
from functools import update_wrapper
from pathlib import Path

from django.contrib.auth.decorators import login_required
from django.contrib.staticfiles.views import serve
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.template import engines
from django.urls import path
from django.views.decorators.csrf import csrf_exempt, ensure_csrf_cookie

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from tests.support.threads import go_through_the_gate
from tests.testapp.models import Order

FENCED = re.MULTILINE | re.DOTALL
POLICY = "default-src 'none'; connect-src 'self'; form-action 'self'; script-src 'self'"

Cart = namedtuple("Cart", "pk")


def strict_csp(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Middleware: forbid what isn't in a file of this site."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    return middleware


@ensure_csrf_cookie
def page(request: HttpRequest) -> HttpResponse:
    response = render(request, "pay.html")
    if "://" in request.GET.get("to", ""):
        policy = POLICY.replace("connect-src 'self'", "connect-src http:")
        response.headers["Content-Security-Policy"] = policy
    return response


HOWTO = Path(__file__).parents[3] / "docs/howto"


def documented(language: str, page: str = "browser.md") -> str:
    """The code in that language on the page of the documentation."""
    text = (HOWTO / page).read_text()
    [code] = re.findall(rf"^```{re.escape(language)}\n(.*?)^```", text, FENCED)
    return str(code)


def documented_page(request: HttpRequest) -> HttpResponse:
    template = engines["django"].from_string(documented("html+django"))
    return HttpResponse(template.render({"cart": Cart(pk=7)}, request))


def documented_script(request: HttpRequest) -> HttpResponse:
    return HttpResponse(documented("js"), content_type="text/javascript")


def upload_page(request: HttpRequest) -> HttpResponse:
    return render(request, "upload.html")


def upload_script(request: HttpRequest) -> HttpResponse:
    code = documented("js", "lost-answer.md")
    return HttpResponse(code, content_type="text/javascript")


@idempotent
def upload(request: IdempotentRequest) -> HttpResponse:
    go_through_the_gate()
    if request.POST["text"] == "scrambled":
        return JsonResponse({"detail": "Nobody can read it."}, status=400)
    Order.objects.create(reference=request.POST["text"])
    return HttpResponse(status=201)


SHARING = (HOWTO / "cors.md").read_text()


def share(request: HttpRequest, shares: bool) -> HttpResponse:
    """Take orders from pages of any origin, with or without the headers that we name."""
    response = HttpResponse()
    if request.method == "POST":
        response = shared(request)
    response.headers["Access-Control-Allow-Origin"] = "*"
    [named] = re.findall(r"^\| allow in requests \| (.*) \|$", SHARING, re.MULTILINE)
    allowed = ["Content-Type", "X-CSRFToken", *re.findall(r"`(.*?)`", named)]
    response.headers["Access-Control-Allow-Headers"] = ",".join(allowed)
    if shares:
        [named] = re.findall(r"CORS_EXPOSE_HEADERS = \((.*?)\)", SHARING, re.DOTALL)
        exposed = re.findall(r'"(.*?)"', named)
        response.headers["Access-Control-Expose-Headers"] = ",".join(exposed)
    return response


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
    order = Order.objects.create(amount=json.loads(request.body)["cart"])
    return JsonResponse({"order": order.pk}, status=201)


shared = idempotent(place)
update_wrapper(share, shared)


def place_and_go(request: HttpRequest) -> HttpResponse:
    order = Order.objects.create(amount=json.loads(request.body)["cart"])
    return redirect(f"/orders/{order.pk}/?next=/")


urlpatterns = [
    path("", page),
    path("login/", sign_in),
    path("orders/", idempotent(wait=timedelta(seconds=20))(place)),
    path("orders/<int:pk>/", order_page),
    path("impatient/", idempotent(wait=timedelta(0))(place)),
    path("classic/", idempotent(place_and_go)),
    path("members/", login_required(idempotent(place))),
    path("documented/", documented_page),
    path("checkout/", checkout),
    path("shared/", csrf_exempt(share), {"shares": True}),
    path("hidden/", csrf_exempt(share), {"shares": False}),
    path("static/shop/pay.js", documented_script),
    path("upload/", upload_page),
    path("uploads/", upload),
    path("static/shop/upload.js", upload_script),
    path("static/<path:path>", serve, {"insecure": True}),
]
