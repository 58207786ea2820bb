import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import override_settings
from django.utils.decorators import method_decorator

from django_idempotency.checks.urls import check_placements

from . import views
from .messages import ids, only

# What is said about each view, and the line to paste.
REMEDIES = {
    "async-handler": ("E020", "    def post(self, request):"),
    "access-check-on-dispatch": ("E021", "    @login_required\n    @idempotent\n"),
    "access-check-on-post": ("E021", "    @login_required\n    @idempotent\n"),
    "access-check-on-post-before": ("E021", "    @login_required\n    @idempotent\n"),
    "check-before-procedures": (
        "E028",
        "    class CheckBeforeProcedures(LoginRequiredMixin, OnceProcedures): ...",
    ),
    "handler-that-nobody-calls": ("W034", '(idempotent, name="dispatch")\n'),
    "handler-in-the-way": ("W034", "    class HandlerInTheWay(…):  # without post()"),
    "handler-in-the-way-of-as-view": (
        "W034",
        "    class HandlerInside(…):  # without put()",
    ),
    "condition-above": ("W035", "    @idempotent\n    @condition(…)\n    def pay("),
    "condition-on-post": ("W035", "    @idempotent\n    @condition(…)\n"),
    "own-decorator": ("W029", "    @timed\n    @idempotent\n    def pay(request):"),
    "own-decorator-further-in": ("W029", "    @timed\n    @idempotent\n"),
    "own-decorator-on-post": ("W029", '= ["django_idempotency.W029"]'),
    "access-check-below": ("E021", "    @login_required\n    @idempotent\n"),
    "durable": ("E022", "    @transaction.atomic  # not durable\n    def pay("),
    "keep-errors": ("E023", "    return HttpResponse(status=404)"),
    "long-lease": ("E039", "    retention=timedelta(days=4)"),
    "long-window": ("E058", "    intent_window=timedelta(seconds=30)"),
    "short-retention": ("W024", "    retention=timedelta(hours=48)"),
    "atomic-above": ("W026", "    @idempotent\n    def pay(request):"),
    "atomic-dispatch": ("W026", "    @idempotent\n    def post(request):"),
    "atomic-as-view": ("W026", "    @idempotent\n    def view(request):"),
    "atomic-above-lease": ("E027", "    @idempotent(lease=…)\n    def pay(request):"),
    "rest-short-retention": ("W024", "    retention=timedelta(hours=48)"),
}

# Where ATOMIC_REQUESTS opens its transaction around the protection, and the way out.
JOINED = {
    "on-post": '    @method_decorator(idempotent, name="dispatch")\n    class OnPost(…):',
    "below-login-on-post": '    @method_decorator(idempotent, name="dispatch")\n',
    "own-decorator-outside": '    @method_decorator(idempotent, name="dispatch")\n',
    "procedures-on-dispatch": '(transaction.non_atomic_requests, name="dispatch")\n',
    "rest-function": "    @transaction.non_atomic_requests\n    def rest_function(",
    "rest-action": "    class Orders(IdempotencyMixin, ViewSet):",
    "rest-post": "    class OrderOnPost(IdempotencyMixin, OrderAPI):",
}


def check(view: Callable[..., Any]) -> Any:
    with override_settings(ROOT_URLCONF=views.Only(view)):
        return check_placements(None)


@pytest.mark.parametrize("name", views.WRONG)
def test_wrong_view_is_named_and_has_an_id_and_a_line_to_paste(name: str) -> None:
    message = only(check(views.WRONG[name]))
    expected, line = REMEDIES[name]

    assert (ids([message]), line in str(message.hint)) == ([expected], True)
    assert re.search(r"\btests\.integration\.checks\.\w+\.\w+", message.msg)


@pytest.mark.parametrize("name", views.RIGHT)
def test_right_view_is_not_complained_about(name: str) -> None:
    assert check(views.RIGHT[name]) == []


@pytest.fixture
def atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)


@pytest.mark.usefixtures("atomic_requests")
@pytest.mark.parametrize("name", views.RIGHT)
def test_atomic_requests_that_come_first_are_mentioned_with_a_way_out(
    name: str,
) -> None:
    messages = check(views.RIGHT[name])

    assert ids(messages) == (["W025"] if name in JOINED else [])
    assert all(JOINED[name] in str(message.hint) for message in messages)


@pytest.mark.usefixtures("atomic_requests")
def test_line_for_a_class_around_a_protected_dispatch_ends_the_warning() -> None:
    decorate = method_decorator(transaction.non_atomic_requests, name="dispatch")
    outside: Any = type("Outside", (views.CheckBeforeOnceProcedures,), {})

    assert check(decorate(outside).as_view()) == []


@pytest.mark.usefixtures("atomic_requests")
def test_taking_atomic_requests_away_from_outside_ends_the_warning() -> None:
    joined = views.without_wraps(views.function)
    before = ids(check(joined))

    assert (before, check(transaction.non_atomic_requests(joined))) == (["W025"], [])


@pytest.mark.usefixtures("atomic_requests")
def test_lease_that_atomic_requests_would_hold_back_is_an_error() -> None:
    message = only(check(views.LeasedOnPost.as_view()))

    assert ids([message]) == ["E027"]
    assert 'name="dispatch")' in str(message.hint)


def test_lease_without_a_transaction_around_it_is_right() -> None:
    assert check(views.LeasedOnPost.as_view()) == []


def test_every_wrong_view_of_a_urlconf_is_named() -> None:
    with override_settings(ROOT_URLCONF=views.__name__):
        found = ids(check_placements(None))

    assert sorted(found) == [
        "E020", "E021", "E021", "E021", "E021", "E022", "E023", "E027", "E028", "E039", "E058",
        "W024", "W024", "W026", "W026", "W026", "W029", "W029", "W029", "W034", "W034", "W034", "W035",
        "W035",
    ]  # fmt: skip


@override_settings(ROOT_URLCONF=None)
def test_project_without_urlconf_has_nothing_to_say() -> None:
    assert check_placements(None) == []
