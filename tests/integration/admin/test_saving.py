"""The admin's forms, sent twice; plain and, by `test_admin_unfold`, under unfold."""

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
from django.test import Client, override_settings
from django.urls import resolve

from django_idempotency.contrib.admin import IdempotentModelAdminMixin
from django_idempotency.models import IdempotencyRecord
from django_idempotency.policies import IdempotencyPolicy
from example_project.checkout.models import Cart, CartItem, Product
from tests.testapp.models import Order

from .ordering import is_replay
from .saving import OrderAdmin
from .staff import colleague

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as ClientResponse

pytestmark = [
    pytest.mark.urls("tests.integration.saving"),
    pytest.mark.django_db,
]

ADD = "/admin/testapp/order/add/"
FIELD = re.compile(r'<input type="hidden" name="idempotency_key" value="([^"]+)">')
TWICE = "The form was sent more than once, and saved once."
AGAIN = "This page was sent before, with other content."


def key_in(page: ClientResponse) -> str:
    """The one key of the form on a page."""
    assert page.status_code == 200
    [key] = FIELD.findall(page.content.decode())
    return str(key)


def filled_in(client: Client, url: str = ADD, **fields: Any) -> dict[str, Any]:
    key = key_in(client.get(url))
    form = {"amount": "3", "reference": "", "_save": "Save"}
    return {"idempotency_key": key, **form, **fields}


def said(response: ClientResponse) -> list[str]:
    return [str(message) for message in get_messages(response.wsgi_request)]


def orders() -> list[int]:
    return sorted(Order.objects.values_list("amount", flat=True))


def test_form_sent_twice_is_saved_once(admin_client: Client) -> None:
    form = filled_in(admin_client)
    answers = [admin_client.post(ADD, form) for _ in range(2)]

    assert [each.status_code for each in answers] == [302, 302]
    assert answers[0].headers["Location"] == answers[1].headers["Location"]
    assert [is_replay(each) for each in answers] == [False, True]
    assert (orders(), LogEntry.objects.count()) == ([3], 1)


def test_form_without_a_key_is_saved_each_time(admin_client: Client) -> None:
    """The negative control; and a script that posts, or a page from before."""
    form = filled_in(admin_client)
    del form["idempotency_key"]
    for _ in range(2):
        admin_client.post(ADD, form)

    assert orders() == [3, 3]


def test_second_post_says_that_it_was_saved_once(admin_client: Client) -> None:
    """The message of the first may have been lost with its answer."""
    form = filled_in(admin_client)
    admin_client.post(ADD, form)
    place = admin_client.post(ADD, form).headers["Location"]
    pages = [admin_client.get(place).content.decode() for _ in range(2)]

    assert [page.count(TWICE) for page in pages] == [1, 0]


def test_each_rendering_has_a_key_of_its_own(admin_client: Client) -> None:
    assert key_in(admin_client.get(ADD)) != key_in(admin_client.get(ADD))


def test_save_and_add_another_is_two_objects(admin_client: Client) -> None:
    for amount in ("1", "2"):
        form = filled_in(admin_client, amount=amount, _addanother="yes")
        for _ in range(2):
            answer = admin_client.post(ADD, form)

    assert answer.headers["Location"] == ADD
    assert orders() == [1, 2]


def test_save_and_continue_leads_to_the_one_object(admin_client: Client) -> None:
    form = filled_in(admin_client, _continue="yes")
    places = [admin_client.post(ADD, form).headers["Location"] for _ in range(2)]

    pk = Order.objects.get().pk
    assert places == [f"/admin/testapp/order/{pk}/change/"] * 2


# Errors


def test_form_with_errors_comes_back_with_a_new_key(admin_client: Client) -> None:
    form = filled_in(admin_client, amount="none")
    page = admin_client.post(ADD, form)

    assert key_in(page) != form["idempotency_key"]


def test_corrected_form_is_saved_once(admin_client: Client) -> None:
    page = admin_client.post(ADD, filled_in(admin_client, amount="none"))
    form = {"idempotency_key": key_in(page), "amount": "4", "_save": "Save"}
    for _ in range(2):
        admin_client.post(ADD, form)

    assert orders() == [4]


def test_form_with_errors_leaves_no_record(admin_client: Client) -> None:
    admin_client.post(ADD, filled_in(admin_client, amount="none"))

    assert not IdempotencyRecord.objects.exists()


def test_form_with_errors_sent_twice_comes_back_twice(admin_client: Client) -> None:
    form = filled_in(admin_client, amount="none")
    keys = {key_in(admin_client.post(ADD, form)) for _ in range(2)}

    assert len(keys) == 2


def test_first_page_is_corrected_after_going_back(admin_client: Client) -> None:
    form = filled_in(admin_client, amount="none")
    admin_client.post(ADD, form)
    admin_client.post(ADD, {**form, "amount": "5"})

    assert orders() == [5]


# Other content under the same key: the back button after saving


def test_changed_form_is_not_saved_beside_the_first(admin_client: Client) -> None:
    form = filled_in(admin_client)
    admin_client.post(ADD, form)
    page = admin_client.post(ADD, {**form, "amount": "7"})

    assert orders() == [3]
    assert AGAIN in unescape(page.content.decode())
    assert 'value="7"' in page.content.decode()


def test_changed_form_is_saved_if_it_is_sent_again(admin_client: Client) -> None:
    form = filled_in(admin_client)
    admin_client.post(ADD, form)
    page = admin_client.post(ADD, {**form, "amount": "7"})
    admin_client.post(ADD, {**form, "amount": "7", "idempotency_key": key_in(page)})

    assert orders() == [3, 7]


def test_changed_form_is_not_saved_by_a_form_class_of_the_projects_own(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which the mixin's get_form() has no part in."""
    form = filled_in(admin_client)
    admin_client.post(ADD, form)
    own = admin.ModelAdmin.get_form
    monkeypatch.setattr(OrderAdmin, "get_form", own)
    answer = admin_client.post(ADD, {**form, "amount": "7"})

    assert (answer.status_code, orders()) == (422, [3])


def test_changed_form_that_nobody_asked_to_save_is_refused(
    admin_client: Client,
) -> None:
    """It may be an action of the change form, which must not run."""
    form = filled_in(admin_client)
    admin_client.post(ADD, form)
    del form["_save"]
    answer = admin_client.post(ADD, {**form, "amount": "7"})

    assert (answer.status_code, orders()) == (422, [3])


# Change forms


def change_url(order: Order) -> str:
    return f"/admin/testapp/order/{order.pk}/change/"


def test_change_sent_twice_is_logged_once(admin_client: Client) -> None:
    url = change_url(Order.objects.create(amount=1))
    form = filled_in(admin_client, url)
    for _ in range(2):
        admin_client.post(url, form)

    assert (orders(), LogEntry.objects.count()) == ([3], 1)


def test_save_as_new_sent_twice_is_one_new_object(admin_client: Client) -> None:
    url = change_url(Order.objects.create(amount=1))
    form = filled_in(admin_client, url, _saveasnew="yes")
    del form["_save"]
    for _ in range(2):
        admin_client.post(url, form)

    assert orders() == [1, 3]


def item(**fields: Any) -> dict[str, Any]:
    counts = {"TOTAL": "1", "INITIAL": "0", "MIN_NUM": "0", "MAX_NUM": "1000"}
    rows = {f"items-{name}_FORMS": value for name, value in counts.items()}
    return {**rows, **{f"items-0-{name}": value for name, value in fields.items()}}


@pytest.fixture
def product() -> Product:
    return Product.objects.create(name="Tea", price_minor=250)


@pytest.mark.parametrize("place", ["add", "change"])
def test_inlines_are_saved_once(
    admin_client: Client, admin_user: User, product: Product, place: str
) -> None:
    cart = Cart.objects.create(user=admin_user)
    url = f"/admin/checkout/cart/{place if place == 'add' else f'{cart.pk}/change'}/"
    form = {
        "idempotency_key": key_in(admin_client.get(url)),
        "user": admin_user.pk,
        "_save": "Save",
        **item(product=product.pk, quantity="2"),
    }
    answers = [admin_client.post(url, form) for _ in range(2)]

    assert [is_replay(each) for each in answers] == [False, True]
    assert (CartItem.objects.count(), LogEntry.objects.count()) == (1, 1)


def test_action_of_the_list_runs_as_ever(admin_client: Client) -> None:
    order = Order.objects.create(amount=2)
    form = {"action": "double", "_selected_action": order.pk}
    admin_client.post("/admin/testapp/order/", form)

    assert orders() == [2, 4]


# Files, popups


def test_file_is_read_once_it_was_compared(admin_client: Client) -> None:
    form = filled_in(admin_client)
    for _ in range(2):
        receipt = SimpleUploadedFile("receipt.txt", b"paid in cash")
        answer = admin_client.post(ADD, {**form, "receipt": receipt})

    assert is_replay(answer)
    assert Order.objects.get().reference == "paid in cash"


def test_other_file_is_other_content(admin_client: Client) -> None:
    form = filled_in(admin_client)
    for content in (b"one", b"two"):
        receipt = SimpleUploadedFile("receipt.txt", content)
        page = admin_client.post(ADD, {**form, "receipt": receipt})

    assert AGAIN in unescape(page.content.decode())
    assert Order.objects.get().reference == "one"


def test_popup_hands_over_the_one_object(admin_client: Client) -> None:
    url = "/admin/checkout/product/add/?_popup=1"
    form = {
        "idempotency_key": key_in(admin_client.get(url)),
        **{"name": "Tea", "price_minor": "250", "_popup": "1", "_save": "Save"},
    }
    answers = [admin_client.post(url, form) for _ in range(2)]

    assert answers[0].content == answers[1].content
    assert f"&quot;value&quot;: &quot;{Product.objects.get().pk}&quot;" in (
        answers[1].content.decode()
    )


def test_popup_leaves_no_message_for_another_page(admin_client: Client) -> None:
    url = "/admin/checkout/product/add/?_popup=1"
    form = {
        "idempotency_key": key_in(admin_client.get(url)),
        **{"name": "Tea", "price_minor": "250", "_popup": "1", "_save": "Save"},
    }
    for _ in range(2):
        answer = admin_client.post(url, form)

    assert said(answer) == []


# Who may


def test_who_may_no_longer_add_gets_no_replay() -> None:
    client = colleague("add", of="order")
    form = filled_in(client)
    assert client.post(ADD, form).status_code == 302
    User.objects.get().user_permissions.clear()

    assert client.post(ADD, form).status_code == 403


def test_who_may_no_longer_change_gets_no_replay() -> None:
    client = colleague("change", of="order")
    url = change_url(Order.objects.create(amount=1))
    form = filled_in(client, url)
    assert client.post(url, form).status_code == 302
    only_view = Permission.objects.filter(codename="view_order")
    User.objects.get().user_permissions.set(only_view)

    assert client.post(url, form).status_code == 403


def test_who_may_not_add_is_refused_and_leaves_no_record() -> None:
    client = colleague("view", of="order")
    form = {"idempotency_key": "k", "amount": "1", "_save": "Save"}

    assert client.post(ADD, form).status_code == 403
    assert not IdempotencyRecord.objects.exists()


def test_who_has_signed_out_is_asked_to_sign_in(admin_client: Client) -> None:
    form = filled_in(admin_client)
    admin_client.post(ADD, form)
    admin_client.logout()

    assert "/login/" in admin_client.post(ADD, form).headers["Location"]


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


def test_csrf_is_asked_before(admin_user: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    form = filled_in(client)

    assert client.post(ADD, form).status_code == 403


# Django's own admin of users, which has a transaction around its form


def test_user_is_added_once(admin_client: Client) -> None:
    url = "/admin/auth/user/add/"
    form = {
        "idempotency_key": key_in(admin_client.get(url)),
        "username": "ben",
        **{"usable_password": "true", "password1": "s3cret-s3cret"},
        **{"password2": "s3cret-s3cret", "_save": "Save"},
    }
    answers = [admin_client.post(url, form) for _ in range(2)]

    assert [is_replay(each) for each in answers] == [False, True]
    assert User.objects.filter(username="ben").count() == 1


@pytest.mark.parametrize("url", [ADD, "/admin/testapp/order/1/change/"])
def test_django_opens_no_transaction_of_atomic_requests_around_it(url: str) -> None:
    view: Any = resolve(url).func

    assert "default" in view._non_atomic_requests


def test_inside_a_protected_view_the_outer_one_holds(admin_client: Client) -> None:
    form = filled_in(admin_client, "/inside/")
    answers = [admin_client.post("/inside/", form) for _ in range(2)]

    assert [is_replay(each) for each in answers] == [False, True]
    assert orders() == [3]


# Templates


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


def test_template_without_a_place_for_the_key_is_refused(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OrderAdmin, "change_form_template", _page("<form></form>"))

    with pytest.raises(ImproperlyConfigured, match="block form_top"):
        admin_client.get(ADD)


def test_page_that_is_no_template_is_left_as_it_is(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def render(*args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse("a page of its own")

    monkeypatch.setattr(admin.ModelAdmin, "render_change_form", render)

    assert admin_client.get(ADD).content == b"a page of its own"


@override_settings(IDEMPOTENCY_FIELD='a"<b')
def test_name_of_the_field_is_the_setting(admin_client: Client) -> None:
    page = admin_client.get(ADD).content.decode()

    assert 'name="a&quot;&lt;b"' in page


# Classes


def test_mixin_after_the_admin_class_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"Wrong\(Idempotent"):
        type("Wrong", (admin.ModelAdmin, IdempotentModelAdminMixin), {})


def test_mixin_on_an_inline_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="inline"):
        type("Wrong", (IdempotentModelAdminMixin, admin.TabularInline), {})


@pytest.mark.parametrize(
    "policy",
    [
        IdempotencyPolicy(lease=timedelta(minutes=1)),
        IdempotencyPolicy(keep_errors=True),
    ],
    ids=["lease", "keep_errors"],
)
def test_policy_that_the_admin_cant_follow_is_refused(
    policy: IdempotencyPolicy,
) -> None:
    with pytest.raises(ImproperlyConfigured, match="neither lease nor keep_errors"):
        type(
            "Wrong",
            (IdempotentModelAdminMixin, admin.ModelAdmin),
            {"idempotency_policy": policy},
        )


def test_key_can_be_required(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = IdempotencyPolicy(required=True)
    monkeypatch.setattr(OrderAdmin, "idempotency_policy", strict)

    assert admin_client.post(ADD, {"amount": "1", "_save": "Save"}).status_code == 400
