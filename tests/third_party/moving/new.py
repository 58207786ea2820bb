"""The new side."""

from typing import Any

from django.urls import path
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.rest_framework import IdempotencyMixin

from .shop import PAY, Ann, pay


class Pay(IdempotencyMixin, APIView):
    authentication_classes = (Ann,)

    def post(self, request: Any) -> Response:
        return pay(request)


urlpatterns = [path(PAY, Pay.as_view())]
