"""Leased REST framework views."""

from datetime import timedelta
from typing import ClassVar

from django.urls import path
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.integration.leased.scene import LEASE, scene

NO_WAIT = timedelta(0)


def answer(request: Request) -> Response:
    status, data = scene.enact(request)
    return Response(data, status=status)


class Mixed(IdempotencyMixin, APIView):
    idempotency_policy: ClassVar[IdempotencyPolicy | None] = IdempotencyPolicy(
        lease=LEASE, wait=NO_WAIT
    )

    def post(self, request: Request) -> Response:
        return answer(request)


class KeepsErrors(Mixed):
    idempotency_policy = IdempotencyPolicy(lease=LEASE, wait=NO_WAIT, keep_errors=True)


@api_view(["POST"])
@idempotent(lease=LEASE, wait=NO_WAIT)
def function(request: Request) -> Response:
    return answer(request)


urlpatterns = [
    path("mixin/", Mixed.as_view()),
    path("api-view/", function),
    path("keeps-errors/", KeepsErrors.as_view()),
]
