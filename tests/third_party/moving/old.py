"""The old side: one of the packages, as its own pages show it."""

from typing import Any

from django.conf import settings
from django.urls import path
from rest_framework.response import Response
from rest_framework.views import APIView

from .settings import OLD
from .shop import PAY, Ann, pay


class Pay(APIView):
    authentication_classes = (Ann,)

    def post(self, request: Any) -> Response:
        return pay(request)


def drf_idempotency() -> Any:
    return Pay.as_view()  # protected by its middleware


def drf_idempotencykey() -> Any:
    from drf_idempotencykey.mixins import DrfIdempotencyKeyMixin

    protected: Any = type("Protected", (DrfIdempotencyKeyMixin, Pay), {})
    return protected.as_view()


def djangorestframework_idempotency_key() -> Any:
    from rest_framework_idempotency_key.decorators import simple_idempotency_key_method

    class Protected(Pay):
        @simple_idempotency_key_method
        def post(self, request: Any) -> Response:
            return pay(request)

    return Protected.as_view()


def idemkit() -> Any:
    from idemkit import HttpConfig, PostgresBackend
    from idemkit.contrib.drf import idempotent_view

    database = settings.DATABASES["default"]
    backend = PostgresBackend.from_url(
        "postgresql://", min_size=1, **connection_parameters(database)
    )
    config = HttpConfig(scope=lambda request: str(request.user.pk))
    mixin = idempotent_view(backend=backend, config=config)
    protected: Any = type("Protected", (mixin, Pay), {})
    return protected.as_view()


def connection_parameters(database: dict[str, Any]) -> dict[str, Any]:
    names = {
        "HOST": "host",
        "PORT": "port",
        "USER": "user",
        "PASSWORD": "password",
        "NAME": "database",
    }
    return {
        theirs: int(database[ours]) if ours == "PORT" else database[ours]
        for ours, theirs in names.items()
        if database.get(ours)
    }


def django_idempotency_key() -> Any:
    from idempotency_key.decorators import idempotency_key

    return idempotency_key(Pay.as_view())


urlpatterns = [path(PAY, globals()[OLD.replace("-", "_")]())]
