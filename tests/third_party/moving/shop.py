"""What both sides do: pay once, and slowly enough for copies to meet."""

import time
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.response import Response

from tests.testapp.models import Cart

PAY = "pay/"
SLOWLY = 0.1  # seconds


class Ann(BaseAuthentication):
    """One package knows only keys of signed-in users."""

    def authenticate(self, request: Any) -> tuple[User, None]:
        return User.objects.get(username="ann"), None


def pay(request: Any) -> Response:
    time.sleep(SLOWLY)
    cart = Cart.objects.create(name=_key_in(request))
    time.sleep(SLOWLY)
    return Response({"paid": cart.pk}, status=201)


def _key_in(request: HttpRequest) -> str:
    key: str = request.headers["Idempotency-Key"]
    return key
