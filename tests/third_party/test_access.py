"""Access checks of other packages: above us they hold for replays, below us they can't."""

from collections.abc import Callable
from typing import Any

import pytest
import rules
from allauth.account.decorators import (
    reauthentication_required,
    secure_admin_login,
    verified_email_required,
)
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from guardian.decorators import permission_required as guardian_permission
from guardian.decorators import permission_required_or_403, permission_required_or_404
from guardian.mixins import PermissionRequiredMixin as GuardianMixin
from guardian.shortcuts import assign_perm, remove_perm
from rules.contrib.views import PermissionRequiredMixin as RulesMixin
from rules.contrib.views import objectgetter
from rules.contrib.views import permission_required as rules_permission

from django_idempotency.checks.urls import check_placements
from django_idempotency.decorators import idempotent
from tests.support.cases import cases
from tests.support.ordering import is_replay, orders, send, signed_in_client
from tests.testapp.models import Cart, Order

MAY_PAY = "testapp.change_cart"
BUYERS: set[str] = set()
"""Who may pay, by a predicate of django-rules."""


@rules.predicate
def is_buyer(user: User, cart: Model | None) -> bool:
    return user.username in BUYERS


rules.add_perm("testapp.pay_cart", is_buyer)


def pay(request: HttpRequest, pk: int) -> HttpResponse:
    return JsonResponse({"order": Order.objects.create().pk}, status=201)


class Pay(View):
    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        return pay(request, pk)


guardian = {
    "function": guardian_permission(MAY_PAY, (Cart, "pk", "pk"), return_403=True),
    "403": permission_required_or_403(MAY_PAY, (Cart, "pk", "pk")),
    "404": permission_required_or_404(MAY_PAY, (Cart, "pk", "pk")),
}
by_rules = rules_permission(
    "testapp.pay_cart", fn=objectgetter(Cart), raise_exception=True
)


@method_decorator(idempotent, name="post")
class GuardedPay(GuardianMixin, Pay):
    permission_required = MAY_PAY
    return_403 = True

    def get_permission_object(self) -> Cart:
        return Cart.objects.get(pk=self.kwargs["pk"])


@method_decorator(idempotent, name="post")
class RuledPay(RulesMixin, Pay):
    permission_required = "testapp.pay_cart"
    raise_exception = True


ABOVE = {
    **{f"guardian-{name}": check(idempotent(pay)) for name, check in guardian.items()},
    "guardian-mixin": GuardedPay.as_view(),
    "rules-function": by_rules(idempotent(pay)),
    "rules-mixin": RuledPay.as_view(),
}
urlpatterns = [path(f"{name}/<int:pk>/", view) for name, view in ABOVE.items()]


@pytest.mark.urls(__name__)
@pytest.mark.django_db
@pytest.mark.parametrize("name", ABOVE)
def test_right_that_was_withdrawn_ends_the_replays_until_it_is_granted_again(
    name: str,
) -> None:
    """FR-065."""
    client, cart = signed_in_client("ann"), Cart.objects.create(name="of ann")
    ann = User.objects.get(username="ann")

    def grant(is_granted: bool) -> None:
        (BUYERS.add if is_granted else BUYERS.discard)("ann")
        (assign_perm if is_granted else remove_perm)(MAY_PAY, ann, cart)

    answers = []
    for is_granted in (False, True, True, False, True):
        grant(is_granted)
        answers.append(send(client, f"/{name}/{cart.pk}/"))

    refusal = 404 if name.endswith("404") else 403
    assert [each.status_code for each in answers] == [refusal, 201, 201, refusal, 201]
    assert [is_replay(each) for each in answers] == [False, False, True, False, True]
    assert orders() == 1


CHECKS: dict[str, Callable[..., Any]] = {
    **{f"guardian-{name}": check for name, check in guardian.items()},
    "rules": by_rules,
    "allauth-verified-email": verified_email_required,
    "allauth-reauthentication": reauthentication_required,
    "allauth-admin": secure_admin_login,
}


@cases("check", CHECKS)
def test_check_below_is_refused_at_import(check: Callable[..., Any]) -> None:
    with pytest.raises(ImproperlyConfigured, match="must stand below the access check"):
        idempotent(check(pay))


class Only:
    def __init__(self, view: Callable[..., Any]) -> None:
        self.urlpatterns = [path("pay/", view)]


@cases("check", CHECKS)
def test_check_below_is_found_where_it_shows_only_in_the_urlconf(
    settings: Any, check: Callable[..., Any]
) -> None:
    made: Any = type("Hidden", (Pay,), {})
    hidden = method_decorator([idempotent, check], name="post")(made)
    settings.ROOT_URLCONF = Only(hidden.as_view())

    (message,) = check_placements(None)

    assert message.id == "django_idempotency.E021"
    assert "must stand above @idempotent" in message.msg
