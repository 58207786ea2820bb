"""The admin's forms, sent twice; plain and, by `test_unfold`, under unfold."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.messages import get_messages
from django.core.exceptions import ImproperlyConfigured
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.template import engines
from django.test import Client
from django.urls import resolve

from django_idempotency.contrib.admin import IdempotentModelAdminMixin
from django_idempotency.models import IdempotencyRecord
from django_idempotency.policies import IdempotencyPolicy
from tests.support.cases import cases
from tests.support.ordering import is_replay
from tests.support.staff import colleague
from tests.testapp.models import Cart, CartItem, Order

from .saving import OrderAdmin

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as ClientResponse

pytestmark = [pytest.mark.urls("tests.integration.admin.saving"), pytest.mark.django_db]


ADD = "/admin/testapp/order/add/"
FIELD = re.compile(r'<input type="hidden" name="idempotency_key" value="([^"]+)"[^>]*>')
TWICE = "The form was sent more than once, and saved once."
AGAIN = "This page was sent before with other content."


def key_in(page: ClientResponse) -> str:
    """The one key of the form on a page."""
    assert page.status_code == 200
    [key] = FIELD.findall(page.content.decode())
    return str(key)


def filled_in(client: Client, url: str = ADD, **fields: Any) -> dict[str, Any]:
    key = key_in(client.get(url))
    form = {"amount": "3", "reference": "", "_save": "Save"}
    return {"idempotency_key": key, **form, **fields}


def twice(client: Client, form: dict[str, Any], url: str = ADD) -> list[ClientResponse]:
    return [client.post(url, form) for _ in range(2)]


def orders() -> list[int]:
    return sorted(Order.objects.values_list("amount", flat=True))


def test_form_sent_twice_is_saved_once_and_says_so(admin_client: Client) -> None:
    """The message of the first may have been lost with its answer."""
    answers = twice(admin_client, filled_in(admin_client))
    (place,) = {each.headers["Location"] for each in answers}
    pages = [admin_client.get(place).content.decode() for _ in range(2)]

    assert [is_replay(each) for each in answers] == [False, True]
    assert (orders(), LogEntry.objects.count()) == ([3], 1)
    assert [page.count(TWICE) for page in pages] == [1, 0]


def test_form_is_saved_once_for_whoever_may_add_but_not_look(settings: Any) -> None:
    """They are sent to the admin's first page, which may be where people sign in."""
    settings.LOGIN_URL = "/admin/"
    client = colleague("add", of="order")
    answers = twice(client, filled_in(client))

    assert [each.headers["Location"] for each in answers] == ["/admin/"] * 2
    assert [is_replay(each) for each in answers] == [False, True]
    assert orders() == [3]


def test_form_without_a_key_is_saved_each_time(admin_client: Client) -> None:
    """The negative control; and a script that posts, or a page from before."""
    form = filled_in(admin_client)
    del form["idempotency_key"]
    twice(admin_client, form)

    assert orders() == [3, 3]


@pytest.mark.parametrize("button", ["_continue", "_addanother"])
def test_other_buttons_save_once_and_lead_on(admin_client: Client, button: str) -> None:
    for amount in ("1", "2"):
        form = filled_in(admin_client, amount=amount, **{button: "yes"})
        answers = twice(admin_client, form)

    place = ADD if button == "_addanother" else change_url(Order.objects.latest("pk"))
    assert [each.headers["Location"] for each in answers] == [place, place]
    assert orders() == [1, 2]


def test_form_with_errors_comes_back_with_a_new_key(admin_client: Client) -> None:
    """Each time, and leaves no record; corrected, it is saved once."""
    form = filled_in(admin_client, amount="none")
    pages = twice(admin_client, form)
    keys = {form["idempotency_key"], *map(key_in, pages)}
    records = IdempotencyRecord.objects.count()
    form = {"idempotency_key": key_in(pages[1]), "amount": "4", "_save": "Save"}
    twice(admin_client, form)

    assert (len(keys), records) == (3, 0)
    assert orders() == [4]


def test_changed_form_is_saved_only_if_it_is_sent_again(admin_client: Client) -> None:
    """The back button after saving."""
    form = filled_in(admin_client)
    admin_client.post(ADD, form)
    page = admin_client.post(ADD, {**form, "amount": "7"})
    assert orders() == [3]
    assert AGAIN in unescape(page.content.decode())
    assert 'value="7"' in page.content.decode()

    admin_client.post(ADD, {**form, "amount": "7", "idempotency_key": key_in(page)})
    assert orders() == [3, 7]


def test_changed_form_that_cant_come_back_is_refused(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be an action of the change form, or the project has its own `get_form`."""
    form = filled_in(admin_client)
    admin_client.post(ADD, form)
    changed = {**form, "amount": "7"}
    monkeypatch.setattr(OrderAdmin, "get_form", admin.ModelAdmin.get_form)
    own_form = admin_client.post(ADD, changed)
    monkeypatch.undo()
    del changed["_save"]
    action = admin_client.post(ADD, changed)

    assert (action.status_code, own_form.status_code, orders()) == (422, 422, [3])


def change_url(order: Order) -> str:
    return f"/admin/testapp/order/{order.pk}/change/"


def test_save_as_new_sent_twice_is_one_new_object(admin_client: Client) -> None:
    url = change_url(Order.objects.create(amount=1))
    form = filled_in(admin_client, url, _saveasnew="yes")
    del form["_save"]
    twice(admin_client, form, url)

    assert orders() == [1, 3]


def item(**fields: Any) -> dict[str, Any]:
    counts = {"TOTAL": "1", "INITIAL": "0", "MIN_NUM": "0", "MAX_NUM": "1000"}
    rows = {f"items-{name}_FORMS": value for name, value in counts.items()}
    return {**rows, **{f"items-0-{name}": value for name, value in fields.items()}}


@pytest.mark.parametrize("place", ["add", "change"])
def test_inlines_are_saved_once(admin_client: Client, place: str) -> None:
    cart = Cart.objects.create(name="tea")
    url = f"/admin/testapp/cart/{place if place == 'add' else f'{cart.pk}/change'}/"
    form = {
        "idempotency_key": key_in(admin_client.get(url)),
        "name": "coffee",
        "_save": "Save",
        **item(quantity="2"),
    }
    answers = twice(admin_client, form, url)

    assert [is_replay(each) for each in answers] == [False, True]
    assert (CartItem.objects.count(), LogEntry.objects.count()) == (1, 1)


def test_action_of_the_list_runs_as_ever(admin_client: Client) -> None:
    order = Order.objects.create(amount=2)
    form = {"action": "double", "_selected_action": order.pk}
    admin_client.post("/admin/testapp/order/", form)

    assert orders() == [2, 4]


def test_file_is_read_once_it_was_compared(admin_client: Client) -> None:
    form = filled_in(admin_client)
    same, again, other = (
        admin_client.post(
            ADD, {**form, "receipt": SimpleUploadedFile("receipt.txt", content)}
        )
        for content in (b"paid in cash", b"paid in cash", b"other")
    )

    assert [is_replay(each) for each in (same, again)] == [False, True]
    assert AGAIN in unescape(other.content.decode())
    assert Order.objects.get().reference == "paid in cash"


def test_popup_hands_over_the_one_object(admin_client: Client) -> None:
    url = f"{ADD}?_popup=1"
    form = filled_in(admin_client, url, _popup="1")
    answers = twice(admin_client, form, url)

    value = f"&quot;value&quot;: &quot;{Order.objects.get().pk}&quot;"
    assert answers[0].content == answers[1].content
    assert value in answers[1].content.decode()
    # No message is left for another page.
    assert list(get_messages(answers[1].wsgi_request)) == []


@pytest.mark.parametrize("verb", ["add", "change"])
def test_who_may_no_longer_gets_no_replay(verb: str) -> None:
    client = colleague(verb, of="order")
    url = ADD if verb == "add" else change_url(Order.objects.create(amount=1))
    form = filled_in(client, url)
    assert client.post(url, form).status_code == 302
    only_view = Permission.objects.filter(codename="view_order")
    User.objects.get().user_permissions.set(only_view)

    assert client.post(url, form).status_code == 403
    client.logout()
    assert "/login/" in client.post(url, form).headers["Location"]


def test_who_may_not_add_is_refused_and_leaves_no_record() -> None:
    client = colleague("view", of="order")
    form = {"idempotency_key": "k", "amount": "1", "_save": "Save"}

    assert client.post(ADD, form).status_code == 403
    client.logout()
    assert "/login/" in client.post(ADD, form).headers["Location"]
    assert not IdempotencyRecord.objects.exists()


def test_key_of_a_colleague_is_another_key(admin_client: Client) -> None:
    form = filled_in(admin_client)
    for client in (admin_client, colleague("add", of="order")):
        client.post(ADD, form)

    assert orders() == [3, 3]


def test_replay_of_a_change_whose_object_is_gone_leads_where_the_first_led(
    admin_client: Client,
) -> None:
    order = Order.objects.create(amount=1)
    url = change_url(order)
    form = filled_in(admin_client, url)
    admin_client.post(url, form)
    order.delete()

    assert is_replay(admin_client.post(url, form))


def test_replay_of_the_change_that_closed_its_object_is_no_trespass(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_open(self: Any, request: Any, order: Order | None = None) -> bool:
        return order is None or order.amount < 3

    monkeypatch.setattr(OrderAdmin, "has_change_permission", is_open)
    url = change_url(Order.objects.create(amount=1))
    answers = twice(admin_client, filled_in(admin_client, url), url)

    assert [each.status_code for each in answers] == [302, 302]
    assert [is_replay(each) for each in answers] == [False, True]


def test_csrf_is_asked_before(admin_user: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)

    assert client.post(ADD, filled_in(client)).status_code == 403


def test_user_is_added_once(admin_client: Client) -> None:
    """By Django's own admin, which has a transaction around its form."""
    url = "/admin/auth/user/add/"
    form = {
        "idempotency_key": key_in(admin_client.get(url)),
        "username": "ben",
        "usable_password": "true",
        **dict.fromkeys(("password1", "password2"), "s3cret-s3cret"),
        "_save": "Save",
    }
    answers = twice(admin_client, form, url)

    assert [is_replay(each) for each in answers] == [False, True]
    assert User.objects.filter(username="ben").count() == 1


@pytest.mark.parametrize("url", [ADD, "/admin/testapp/order/1/change/"])
def test_django_opens_no_transaction_of_atomic_requests_around_it(url: str) -> None:
    view: Any = resolve(url).func

    assert "default" in view._non_atomic_requests


def test_inside_a_protected_view_the_outer_one_holds(admin_client: Client) -> None:
    form = filled_in(admin_client, "/inside/")
    answers = twice(admin_client, form, "/inside/")

    assert [is_replay(each) for each in answers] == [False, True]
    assert orders() == [3]


def _page(source: str) -> Any:
    return engines["django"].from_string(source)


@pytest.mark.parametrize(
    "form",
    [
        "{% block form_top %}{% endblock %}",
        "{% load idempotency %}{% idempotency_key %}",
        '{% extends "admin/change_form.html" %}{% block form_top %}Hello{% endblock %}',
    ],
    ids=["block", "tag", "extends"],
)
def test_template_of_the_projects_own_gets_the_key(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(OrderAdmin, "change_form_template", _page(form))

    assert key_in(admin_client.get(ADD))


def test_template_without_a_place_for_the_key_is_refused_and_other_pages_stay(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OrderAdmin, "change_form_template", _page("<form></form>"))
    with pytest.raises(ImproperlyConfigured, match="block form_top"):
        admin_client.get(ADD)

    def render(*args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse("a page of its own")

    monkeypatch.setattr(admin.ModelAdmin, "render_change_form", render)
    assert admin_client.get(ADD).content == b"a page of its own"


def with_policy(**options: Any) -> dict[str, IdempotencyPolicy]:
    return {"idempotency_policy": IdempotencyPolicy(**options)}


MIXED = (IdempotentModelAdminMixin, admin.ModelAdmin)


@cases(
    "bases, options, sentence",
    {
        "mixin last": (MIXED[::-1], {}, r"Wrong\(Idempotent"),
        "inline": ((MIXED[0], admin.TabularInline), {}, "inline"),
        "lease": (MIXED, with_policy(lease=timedelta(1)), "neither lease nor"),
        "kept errors": (MIXED, with_policy(keep_errors=True), "nor keep_errors"),
    },
)
def test_mixin_with_what_it_cant_follow_is_refused(
    bases: tuple[type, ...], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=sentence):
        type("Wrong", bases, options)


def test_key_can_be_required(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = IdempotencyPolicy(required=True)
    monkeypatch.setattr(OrderAdmin, "idempotency_policy", strict)

    assert admin_client.post(ADD, {"amount": "1", "_save": "Save"}).status_code == 400
