"""A receiver as a REST framework view, for projects that route everything there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from django_idempotency.http.bodies import watch_body

from .endpoints import Endpoint
from .receiver import receive
from .views import WebhookView, registered

try:
    from rest_framework.request import Request
    from rest_framework.views import APIView
except ImportError as error:
    raise ImportError(
        "django_idempotency.webhooks.rest_framework needs Django REST framework: "
        "pip install django-idempotency[drf]"
    ) from error

__all__ = ["WebhookAPIView"]


class WebhookAPIView(WebhookView, APIView):
    """`WebhookView` as a REST framework view.

    The signature is the access check, so the framework's authentication, permissions,
    throttles, versioning and negotiation don't run.
    """

    authentication_classes: Sequence[Any] = ()
    permission_classes: Sequence[Any] = ()
    throttle_classes: Sequence[Any] = ()
    http_method_names: Sequence[str] = ("get", "head", "post")
    schema = None
    webhook_endpoint: ClassVar[Endpoint | None] = None
    """Set by `as_view`."""

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        endpoint = cls.as_endpoint()
        view = super(WebhookView, cls).as_view(webhook_endpoint=endpoint, **initkwargs)
        return registered(view, endpoint)

    def dispatch(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        # Before any part of the framework can read the stream.
        watch_body(request)
        response: HttpResponseBase = super().dispatch(request, *args, **kwargs)
        return response

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse nothing: a provider's ``Accept`` header must not cost an event."""

    def get(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._receive(request)

    def post(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:
        return self._receive(request)

    def _receive(self, request: Request) -> HttpResponse:
        return receive(self.webhook_endpoint or self.as_endpoint(), request._request)
