"""The same receivers as views of Django and of REST framework; also a URLconf."""

from __future__ import annotations

from typing import Any

from django.urls import path
from rest_framework.authentication import BasicAuthentication
from rest_framework.permissions import IsAdminUser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.versioning import AcceptHeaderVersioning

from django_idempotency.webhooks import Event, WebhookView, on, providers
from django_idempotency.webhooks.rest_framework import WebhookAPIView
from tests.deliveries import SECRET
from tests.integration.webhooks.receivers import handle

__all__ = ["urlpatterns"]


class Payments(WebhookView):
    profile = providers.STRIPE
    secrets = SECRET
    endpoint = "tested-django-payments"

    @on("invoice.paid")
    def paid(self, event: Event) -> Any:
        return handle(event)


class RestPayments(WebhookAPIView):
    profile = providers.STRIPE
    secrets = SECRET
    endpoint = "tested-rest-payments"

    @on("invoice.paid")
    def paid(self, event: Event) -> Any:
        return handle(event)


class StrictPayments(RestPayments):
    """With everything that may refuse a request before its view."""

    endpoint = "tested-strict-payments"
    authentication_classes = (BasicAuthentication,)
    permission_classes = (IsAdminUser,)
    renderer_classes = (JSONRenderer,)
    versioning_class = AcceptHeaderVersioning


class CuriousPayments(RestPayments):
    """Looks at the parsed body first."""

    endpoint = "tested-curious-payments"

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        data: Any = request.data
        assert data["id"]


class StoredPayments(RestPayments):
    endpoint = "tested-rest-inbox"
    inbox = True


urlpatterns = [
    path("django/", Payments.as_view()),
    path("rest/", RestPayments.as_view()),
    path("strict/", StrictPayments.as_view()),
    path("curious/", CuriousPayments.as_view()),
    path("stored/", StoredPayments.as_view()),
]
