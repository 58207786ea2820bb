"""Pages with keys on them, of views of each kind, and what they sell."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template import engines
from django.template.response import TemplateResponse
from django.views import View
from rest_framework.renderers import TemplateHTMLRenderer
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.rest_framework import IdempotencyMixin
from tests.testapp.models import Order

TAGS = {
    "fresh": "{% idempotency_key %}",
    "derived": "{% idempotency_key 7 %}",
    "fragment": "{% cache 60 form %}{% idempotency_key %}{% endcache %}",
    "none": "",
}


def template(tag: str) -> Any:
    source = "{% load idempotency cache %}{% csrf_token %}" + TAGS[tag]
    return engines["django"].from_string(source)


def bought() -> HttpResponse:
    return HttpResponseRedirect(f"/orders/{Order.objects.create().pk}/")


def is_sold(request: Any) -> bool:
    """With a query, the form comes back instead, as if there were errors in it."""
    return request.method == "POST" and not request.GET


def said(request: HttpRequest) -> dict[str, Any]:
    """The status, and the Cache-Control that the view itself has written, if any."""
    written = request.GET.get("said")
    return {
        "headers": {} if written is None else {"Cache-Control": written},
        "status": 400 if request.method == "POST" else 200,
    }


def shop(request: HttpRequest, tag: str) -> HttpResponse:
    if is_sold(request):
        return bought()
    return HttpResponse(template(tag).render({}, request), **said(request))


def shop_later(request: HttpRequest, tag: str) -> HttpResponse:
    """Rendered by Django, after the view has returned."""
    if is_sold(request):
        return bought()
    return TemplateResponse(request, template(tag), **said(request))


async def shop_async(request: HttpRequest, tag: str) -> HttpResponse:
    return shop_later(request, tag)


class Shop(View):
    def get(self, request: HttpRequest, tag: str) -> HttpResponse:
        return shop_later(request, tag)

    post = get


class Html(TemplateHTMLRenderer):
    def resolve_template(self, template_names: Any) -> Any:
        return template(template_names[0])


def rest_shop(request: Any, tag: str) -> Any:
    if is_sold(request):
        return bought()
    return Response({}, template_name=tag, **said(request._request))


class RestShop(IdempotencyMixin, APIView):
    renderer_classes = [Html]

    def get(self, request: Any, tag: str) -> Any:
        return rest_shop(request, tag)

    post = get
