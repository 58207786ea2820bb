"""Whoever may not make the first call gets no replay either."""

import pytest
from django.contrib.auth.models import User

from tests.support.ordering import is_replay, orders
from tests.support.records import states

from .conftest import UNGUESSABLE, add_order, customer, guest
from .placement import Placement

pytestmark = [
    pytest.mark.urls("tests.integration.placements.urls"),
    pytest.mark.usefixtures("db"),
]


def test_anonymous_caller_is_refused_as_without_us_or_for_a_guessable_key(
    placement: Placement,
) -> None:
    """FR-064: where no access check stands in front, the key must be unguessable."""
    response = guest().post(placement.path, "1")

    assert response.status_code == (placement.refuses_anonymous or 400)
    assert (orders(), states()) == (0, [])


def test_anonymous_caller_with_unguessable_key_is_protected_where_guests_may_order(
    placement: Placement,
) -> None:
    refusal = placement.refuses_anonymous
    answers = [guest().post(placement.path, UNGUESSABLE) for _ in range(2)]

    assert [each.status_code for each in answers] == [refusal or 201] * 2
    assert (orders(), states()) == ((0, []) if refusal else (1, ["kept"]))


def test_deactivated_user_gets_no_replay(placement: Placement) -> None:
    """FR-065. A view without any check takes him for a guest with a guessable key."""
    ada = customer()
    first = ada.post(placement.path)
    User.objects.update(is_active=False)
    refused = ada.post(placement.path)

    assert refused.status_code == (placement.refuses_anonymous or 400)
    assert not is_replay(refused)
    assert first.content not in refused.content
    assert orders() == 1


def test_revoked_permission_gets_no_replay_until_it_is_granted_again(
    placement: Placement,
) -> None:
    """FR-065."""
    ada = customer()
    first = ada.post(placement.path)
    ada.user.user_permissions.clear()
    refused = ada.post(placement.path)
    ada.user.user_permissions.add(add_order())
    granted = ada.post(placement.path)

    assert refused.status_code == (placement.refuses_unpermitted or 201)
    assert (first.content in refused.content) is (not placement.refuses_unpermitted)
    assert (granted.content, orders()) == (first.content, 1)


def test_refused_first_call_leaves_the_key_free(
    placement: Placement, atomic_requests: bool
) -> None:
    """FR-042: the permission is granted, and the same key works."""
    ada = customer(permitted=False)
    refused = ada.post(placement.path)
    ada.user.user_permissions.add(add_order())
    granted = ada.post(placement.path)

    assert refused.status_code == (placement.refuses_unpermitted or 201)
    assert (granted.status_code, orders(), states()) == (201, 1, ["kept"])


def test_two_users_with_one_key_get_an_order_each(placement: Placement) -> None:
    """FR-062, FR-063: neither learns that the other's key exists."""
    ada, eve = customer("ada"), customer("eve")
    answers = [ada.post(placement.path), eve.post(placement.path, amount=2)]

    assert [each.status_code for each in answers] == [201, 201]
    assert not any(is_replay(each) for each in answers)
    assert (orders(), states()) == (2, ["kept", "kept"])
