"""Which cart a visitor's browser has, and who may see a cart.

The session remembers it for convenience only, and no protected view writes to it: the
session is saved after the view's commit, and its cookie is never replayed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.views import redirect_to_login
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404

from example_project.checkout.carts import take_over
from example_project.checkout.models import Cart

__all__ = ["current_cart", "keep_cart_at_login", "remember", "with_cart"]

_View = Callable[..., HttpResponseBase]
_SESSION_KEY = "cart"


def remember(request: HttpRequest, cart: Cart) -> None:
    """Let this be the browser's cart."""
    if request.session.get(_SESSION_KEY) != str(cart.token):
        request.session[_SESSION_KEY] = str(cart.token)


def current_cart(request: HttpRequest) -> Cart | None:
    """The browser's cart, as long as it is not ordered."""
    token = request.session.get(_SESSION_KEY)
    if token is None:
        return None
    readable = Cart.objects.filter(Q(user=None) | Q(user=request.user.pk))
    return readable.filter(token=token, orders=None).first()


def keep_cart_at_login(request: HttpRequest, user: AbstractUser, **_: object) -> None:
    """A guest who signs in keeps the cart, and nobody else sees it from then on."""
    if token := request.session.get(_SESSION_KEY):
        take_over(token, user_id=user.pk)


def with_cart(view: _View) -> _View:
    """Give the view the cart with this token, if the visitor may have it.

    A customer's is for the customer. A guest's is for whoever knows the token, which
    outlives the guest's session.
    """

    @wraps(view)
    def wrapped(request: HttpRequest, token: UUID, **parts: Any) -> HttpResponseBase:
        cart = get_object_or_404(Cart.objects.select_related("user"), token=token)
        if cart.user in (None, request.user):
            return view(request, cart, **parts)
        if request.user.is_authenticated:
            raise Http404
        return redirect_to_login(request.path)

    return wrapped
