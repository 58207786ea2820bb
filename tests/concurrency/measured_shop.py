"""Views in which everything happens that is measured, and their address; a URLconf."""

from datetime import timedelta

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from django_idempotency.webhooks import Event, PermanentError, providers, webhook
from tests.support.deliveries import SECRET

LEASE = timedelta(minutes=1)


def pay(request: HttpRequest, number: int) -> HttpResponse:
    return HttpResponse(status=int(request.body))


def call(request: IdempotentRequest) -> HttpResponse:
    if request.body == b"lost":
        request.idempotency.call("charge", _lose, if_unknown="hold")
    return HttpResponse(status=201)


def _lose(key: str) -> str:
    raise ConnectionError


def handle(event: Event) -> None:
    if event.type == "never":
        raise PermanentError
    if event.type == "not-now":
        raise ValueError


urlpatterns = [
    path("pay/<int:number>/", csrf_exempt(idempotent(pay))),
    path("call/", csrf_exempt(idempotent(lease=LEASE, wait=timedelta(0))(call))),
    *(
        path(
            f"{name}/",
            webhook(
                providers.STRIPE,
                secrets=SECRET,
                endpoint=f"measured-{name}",
                livemode=True,
                inbox=name == "inbox",
            )(handle),
        )
        for name in ("inline", "inbox")
    ),
    path("metrics/", include("django_idempotency.contrib.prometheus.urls")),
]
