"""What is kept is committed, and what is not kept is rolled back."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import BrokenTransaction
from django_idempotency.models import IdempotencyRecord
from tests.support.client import call, new_key, post
from tests.support.records import states
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db(transaction=True)

View = Callable[[HttpRequest], Any]


class Failure(Exception):
    """What a view raises."""


@idempotent
def order(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"order": Order.objects.create().pk}, status=201)


def failing_once(failure: BaseException) -> View:
    """A view that writes an order each time, and fails after the first one."""
    failures = [failure]

    @idempotent
    def view(request: HttpRequest) -> HttpResponse:
        Order.objects.create()
        if failures:
            raise failures.pop()
        return HttpResponse(status=201)

    return view


# In a transaction of somebody else


@pytest.mark.parametrize("amount", [1, 2], ids=["replayed", "refused"])
def test_collision_leaves_the_transaction_around_it_usable(amount: int) -> None:
    key = new_key()  # FR-006
    call(order, key)

    with transaction.atomic():
        call(order, key, amount=amount)
        Order.objects.create()

    assert Order.objects.count() == 2


def test_failure_leaves_the_transaction_around_it_usable() -> None:
    with transaction.atomic():
        with pytest.raises(ValueError, match="no"):
            call(failing_once(ValueError("no")), new_key())
        Order.objects.create()

    assert Order.objects.count() == 1


def test_outer_rollback_takes_order_and_record_with_it() -> None:
    key = new_key()  # FR-024
    with transaction.atomic():
        call(order, key)
        transaction.set_rollback(True)

    assert (Order.objects.count(), IdempotencyRecord.objects.count()) == (0, 0)
    assert call(order, key).word == "201"


def test_repeat_inside_the_same_transaction_is_replayed() -> None:
    key = new_key()
    with transaction.atomic():
        words = [call(order, key).word for _ in range(2)]

    assert words == ["201", "201 replayed"]


# Transactions that are broken


def swallow_by_orm() -> None:
    for _ in range(2):
        try:
            Order.objects.create(reference="once")
        except IntegrityError:
            return


def swallow_by_cursor() -> None:
    with connection.cursor() as cursor:
        for _ in range(2):
            try:
                cursor.execute(
                    "INSERT INTO testapp_order (reference, amount) VALUES ('once', 1)"
                )
            except DatabaseError:
                return


def roll_back() -> None:
    Order.objects.create(reference="once")
    transaction.set_rollback(True)


def view_after(damage: Callable[[], None], *, status: int) -> View:
    @idempotent(required=False)
    def view(request: HttpRequest) -> HttpResponse:
        damage()
        return HttpResponse(status=status)

    return view


DAMAGES = [
    pytest.param(swallow_by_orm, id="orm"),
    # Elsewhere a failed statement leaves the transaction as it was.
    pytest.param(swallow_by_cursor, id="cursor", marks=pytest.mark.postgresql),
    pytest.param(roll_back, id="set_rollback"),
]
KEYS = [pytest.param(True, id="with key"), pytest.param(False, id="without key")]


def maybe_key(wanted: bool) -> str | None:
    return new_key() if wanted else None


@pytest.mark.parametrize("keyed", KEYS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_success_over_a_broken_transaction_is_an_error_and_frees_the_key(
    damage: Callable[[], None], keyed: bool
) -> None:
    key = maybe_key(keyed)
    with pytest.raises(BrokenTransaction, match="answered below 400"):  # FR-007
        call(view_after(damage, status=200), key)

    assert (Order.objects.count(), states()) == (0, ["released"] if keyed else [])
    assert call(order, key or new_key()).word == "201"


@pytest.mark.parametrize("keyed", KEYS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_success_over_a_broken_savepoint_is_an_error(
    damage: Callable[[], None], keyed: bool
) -> None:
    with transaction.atomic():
        with pytest.raises(BrokenTransaction):
            call(view_after(damage, status=200), maybe_key(keyed))
        Order.objects.create(reference="outside")

    assert [each.reference for each in Order.objects.all()] == ["outside"]


@pytest.mark.parametrize("keyed", KEYS)
@pytest.mark.parametrize("status", [400, 503])
@pytest.mark.parametrize("damage", DAMAGES)
def test_refusal_over_a_broken_transaction_passes_and_is_not_kept(
    damage: Callable[[], None], status: int, keyed: bool
) -> None:
    key = maybe_key(keyed)
    assert call(view_after(damage, status=status), key).word == str(status)
    assert (Order.objects.count(), set(states()) - {"released"}) == (0, set())
    assert call(order, key or new_key()).word == "201"


def test_error_in_a_savepoint_of_the_view_breaks_nothing() -> None:
    @idempotent
    def view(request: HttpRequest) -> HttpResponse:
        Order.objects.create(reference="once")
        with pytest.raises(IntegrityError), transaction.atomic():
            Order.objects.create(reference="once")
        return HttpResponse(status=201)

    key = new_key()

    assert [call(view, key).word for _ in range(2)] == ["201", "201 replayed"]
    assert Order.objects.count() == 1


# At the commit


def failing_at_commit_once() -> View:
    """Foreign keys are checked at COMMIT: a view can't see that it will fail."""
    missing = [0]

    @idempotent
    def view(request: HttpRequest) -> HttpResponse:
        Order.objects.create()
        if missing:
            user = User.objects.get()
            User.groups.through.objects.create(user=user, group_id=missing.pop())
        return HttpResponse(status=201)

    User.objects.create_user("alice")
    return view


@pytest.mark.deferred_constraints
def test_failed_commit_is_an_error_and_a_retry_runs() -> None:
    view, key = failing_at_commit_once(), new_key()
    with pytest.raises(IntegrityError):
        call(view, key)

    assert [call(view, key).word for _ in range(2)] == ["201", "201 replayed"]
    assert Order.objects.count() == 1


# On every way out of a view


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_exit_of_the_process_frees_the_key(error: type[BaseException]) -> None:
    view, key = failing_once(error()), new_key()  # FR-018
    with pytest.raises(error):
        call(view, key)

    assert Order.objects.count() == 0
    assert call(view, key).word == "201"
    assert Order.objects.count() == 1


class RaisesOnce:
    """A middleware that fails after the view's transaction was committed."""

    failures = 1

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if RaisesOnce.failures:
            RaisesOnce.failures -= 1
            raise Failure
        return response


def test_retry_after_an_error_of_a_middleware_is_replayed(settings: Any) -> None:
    settings.ROOT_URLCONF = (path("order/", order),)  # FR-019
    settings.MIDDLEWARE = [f"{__name__}.RaisesOnce"]
    RaisesOnce.failures = 1
    key = new_key()

    assert [post("/order/", key).word for _ in range(2)] == ["500", "201 replayed"]
    assert Order.objects.count() == 1


# A protected view inside a protected view


def test_inner_protected_view_is_rolled_back_with_the_outer_one() -> None:
    @idempotent
    def view(request: HttpRequest) -> HttpResponse:
        order(request)
        raise Failure

    with pytest.raises(Failure):
        call(view, new_key())

    assert Order.objects.count() == 0


def test_two_protected_views_one_after_the_other_are_one_operation_each() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        responses = [order(request), order(request)]
        response: HttpResponse = responses[1]
        return response

    # The same request, hence the same key: the second is a repeat of the first.
    assert call(view, new_key()).word == "201 replayed"


# Inside the tests of a project


@pytest.mark.django_db
def test_first_call_repeat_and_mismatch_work_inside_a_test_case() -> None:
    key = new_key()  # FR-010, FR-106
    words = [call(order, key, amount=amount).word for amount in (1, 1, 2)]

    assert words == ["201", "201 replayed", "422 key-reused"]


@pytest.mark.django_db
def test_failure_and_retry_work_inside_a_test_case() -> None:
    view, key = failing_once(Failure()), new_key()
    with pytest.raises(Failure):
        call(view, key)

    assert call(view, key).word == "201"
    assert Order.objects.count() == 1
