"""HTML forms: the tag, the hidden field, and what a browser gets to see."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.template import RequestContext, Template, TemplateSyntaxError, engines
from django.test import Client, RequestFactory, override_settings
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.support.browser import ACCEPT, URLENCODED, Browser, hidden_fields, key_in
from tests.support.cases import cases
from tests.support.ordering import GUEST_KEY, orders, word
from tests.support.records import change
from tests.testapp.models import Order

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as ClientResponse

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]


class OrderForm(forms.Form):
    amount = forms.IntegerField(min_value=1)


ORDER_PAGE = """{% load idempotency %}
<form method="post">{% csrf_token %}{% idempotency_key %}{{ form }}</form>
"""
CONFIRM_PAGE = """{% load idempotency %}
<form method="post">{% csrf_token %}{% idempotency_key cart version %}</form>
"""
RESULT_PAGE = "{% for message in messages %}<p>{{ message }}</p>{% endfor %}"


def page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    return HttpResponse(
        engines["django"].from_string(template).render(context, request)
    )


def bought(request: HttpRequest, amount: int) -> HttpResponse:
    order = Order.objects.create(amount=amount)
    messages.success(request, "Thank you!")
    return HttpResponse(status=303, headers={"Location": f"/orders/{order.pk}/"})


@idempotent
def order(request: HttpRequest) -> HttpResponse:
    form = OrderForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        return bought(request, form.cleaned_data["amount"])
    return page(request, ORDER_PAGE, form=form)


@login_required
@idempotent
def members_order(request: HttpRequest) -> HttpResponse:
    return bought(request, 1)


@idempotent
def order_that_asks_inside(request: HttpRequest) -> HttpResponse:
    if not request.user.is_authenticated:
        return redirect_to_login(request.path)
    return bought(request, 1)


@idempotent
def confirm(request: HttpRequest, cart: str, version: str) -> HttpResponse:
    if request.method == "POST":
        return bought(request, 1)
    return page(request, CONFIRM_PAGE, cart=cart, version=version)


def result(request: HttpRequest, pk: int) -> HttpResponse:
    return page(request, RESULT_PAGE)


urlpatterns = [
    path("order/", order),
    path("members/", members_order),
    path("inside/", order_that_asks_inside),
    path("confirm/<cart>/<version>/", confirm),
    path("orders/<int:pk>/", result),
]


CONFIRM = "/confirm/7/1/"


def rendered(source: str, request: HttpRequest | None = None, **context: Any) -> str:
    if request is None:
        request = RequestFactory().get("/")
        request.user = AnonymousUser()
    template = Template("{% load idempotency %}" + source)
    return template.render(RequestContext(request, context))


def key_at(url: str, browser: Browser | None = None) -> str:
    """The key of the form there, as one user or this browser gets it."""
    return key_in((browser or Browser().sign_in()).visit(url))


def test_derived_key_is_equal_on_every_rendering() -> None:
    """And the user's own, in each of his browsers."""
    guest = Browser()

    assert key_at(CONFIRM, guest) == key_at(CONFIRM, guest)
    assert key_at(CONFIRM) == key_at(CONFIRM)


@pytest.mark.parametrize(
    ("url", "other"),
    [
        (CONFIRM, "/confirm/8/1/"),
        (CONFIRM, "/confirm/7/2/"),
        (CONFIRM, "/confirm/71/ /"),
        ("/confirm/1/23/", "/confirm/12/3/"),
    ],
)
def test_derived_key_differs_by_every_argument(url: str, other: str) -> None:
    assert key_at(url) != key_at(other)


def test_derived_key_differs_by_user_and_by_the_browser_of_a_guest() -> None:
    """FR-064: all guests are one principal, and the cart's number is no secret."""
    ann, bob = Browser().sign_in("ann"), Browser().sign_in("bob")
    keys = {key_at(CONFIRM, each) for each in (ann, bob, Browser(), Browser())}

    assert len(keys) == 4


def test_derived_key_depends_on_the_secret_key() -> None:
    browser = Browser().sign_in()
    before = key_at(CONFIRM, browser)
    with override_settings(SECRET_KEY="another", SECRET_KEY_FALLBACKS=["tests-only"]):  # noqa: S106
        assert key_at(CONFIRM, browser) != before


def tenant(request: HttpRequest) -> str:
    return f"tenant:{request.GET['tenant']}"


@override_settings(IDEMPOTENCY_PRINCIPAL=f"{__name__}.tenant")
def test_derived_key_goes_by_the_projects_principal() -> None:
    one, same, other = (key_at(f"{CONFIRM}?tenant={name}") for name in "aab")
    guest, another = (key_at(f"{CONFIRM}?tenant=a", Browser()) for _ in range(2))

    assert one == same != other
    assert len({one, guest, another}) == 3  # a tenant's guests are nobody's colleagues


@pytest.mark.parametrize(
    "arguments", ["missing", "cart.missing", "none", "blank", "one missing"]
)
def test_empty_argument_is_refused(arguments: str) -> None:
    with pytest.raises(TemplateSyntaxError, match="misspelt variable"):
        rendered("{% idempotency_key " + arguments + " %}", one=1, none=None, blank="")


@pytest.mark.parametrize("value", [0, False, 0.0])
def test_argument_that_is_only_falsy_is_not_empty(value: object) -> None:
    assert 'value="' in rendered("{% idempotency_key value %}", value=value)


def test_context_without_request_is_refused_with_the_line_to_add() -> None:
    template = engines["django"].from_string(
        "{% load idempotency %}{% idempotency_key %}"
    )
    with pytest.raises(ImproperlyConfigured, match="context_processors"):
        template.render({})


@override_settings(IDEMPOTENCY_FIELD='a"<b')
def test_name_of_the_field_is_the_setting_and_escaped() -> None:
    assert 'name="a&quot;&lt;b"' in rendered("{% idempotency_key %}")


def test_browser_puts_no_old_key_into_a_page_that_is_loaded_again() -> None:
    assert 'autocomplete="off"' in rendered("{% idempotency_key %}")


def test_page_with_a_key_is_never_shared_by_a_cache() -> None:
    response = Client().get("/order/")
    assert "Cookie" in response.headers["Vary"]
    assert "csrftoken" in response.cookies

    request = RequestFactory().get("/")  # and by the tag alone
    rendered("{% idempotency_key %}", request)

    assert request.META["CSRF_COOKIE_NEEDS_UPDATE"] is True


@pytest.mark.parametrize("field", ["idempotency_key", "once"])
def test_double_click_orders_once_on_one_page(field: str, settings: Any) -> None:
    """FR-112: both posts land on the same confirmation, whatever the field is called."""
    settings.IDEMPOTENCY_FIELD = field
    browser = Browser()
    form = browser.fill_in("/order/", amount="3")
    answers = [browser.press("/order/", form) for _ in range(2)]

    assert field in form
    assert [word(each) for each in answers] == ["303", "303 replayed"]
    assert {each.headers["Location"] for each in answers} == {
        f"/orders/{Order.objects.get().pk}/"
    }


@pytest.mark.parametrize(
    "header", [GUEST_KEY, f'"{GUEST_KEY}"'], ids=["bare", "quoted"]
)
def test_header_and_field_that_agree_are_one_key(header: str) -> None:
    form = {"amount": "1", "idempotency_key": GUEST_KEY}
    response = Client().post("/order/", form, headers={"Idempotency-Key": header})

    assert response.status_code == 303


def order_once(browser: Browser, **fields: str) -> ClientResponse:
    return browser.press("/order/", browser.fill_in("/order/", **fields))


def test_replay_shows_no_message_twice() -> None:
    """FR-069: a flash message belongs to the request that made it."""
    browser = Browser().sign_in()
    form = browser.fill_in("/order/", amount="3")
    shown = []
    for _ in range(2):
        posted = browser.press("/order/", form)
        page = browser.visit(posted.headers["Location"])
        shown.append(b"Thank you!" in page.content)

    assert shown == [True, False]


def test_replay_in_another_browser_of_the_user_shows_no_message() -> None:
    """FR-066, FR-069: the cookie that holds it is the first browser's."""
    browsers = [Browser().sign_in() for _ in range(2)]
    answers = [each.press(CONFIRM, each.fill_in(CONFIRM)) for each in browsers]
    shown = browsers[1].visit(answers[1].headers["Location"])

    assert [word(each) for each in answers] == ["303", "303 replayed"]
    assert [sorted(each.cookies) for each in answers] == [["messages"], []]
    assert b"Thank you!" not in shown.content
    # The next form works there.
    assert word(order_once(browsers[1], amount="2")) == "303"


def test_form_with_errors_comes_back_with_another_key() -> None:
    browser = Browser()
    form = browser.fill_in("/order/", amount="0")
    refused = browser.press("/order/", form)
    corrected = browser.press("/order/", {**hidden_fields(refused), "amount": "3"})

    assert key_in(refused) != form["idempotency_key"]
    assert (corrected.status_code, orders()) == (303, 1)


def test_double_click_on_a_form_with_errors_gives_one_page_and_one_new_key() -> None:
    browser = Browser()
    form = browser.fill_in("/order/", amount="0")
    first, second = (browser.press("/order/", form) for _ in range(2))

    assert first.content == second.content


def test_form_corrected_by_the_back_button_is_told_to_start_anew() -> None:
    browser = Browser()
    form = browser.fill_in("/order/", amount="0")
    browser.press("/order/", form)
    corrected = browser.press("/order/", {**form, "amount": "3"})

    assert (corrected.status_code, orders()) == (422, 0)


@pytest.mark.parametrize("url", ["/members/", "/inside/"])
def test_login_redirect_is_never_kept_and_form_is_sent_anew(url: str) -> None:
    client = Client()
    sent_away = client.post(url, {"idempotency_key": GUEST_KEY})
    assert (sent_away.status_code, IdempotencyRecord.objects.count()) == (302, 0)
    signed_in = Browser(client).sign_in().client
    answers = [signed_in.post(url, {"idempotency_key": GUEST_KEY}) for _ in range(2)]

    assert ([each.status_code for each in answers], orders()) == ([303, 303], 1)


def post_by_browser(client: Client, key: str = GUEST_KEY, amount: str = "1") -> Any:
    return client.post(
        "/order/", f"amount={amount}&idempotency_key={key}", content_type=URLENCODED
    )


def pages_in_place_of_the_view() -> dict[int, str]:
    """One page of each kind that a form can meet while the database is well."""
    client = Client(headers={"Accept": ACCEPT})
    missing = client.post("/order/", "amount=1", content_type=URLENCODED)
    post_by_browser(client)
    reused = post_by_browser(client, amount="2")
    # As if the one record were a claim that somebody else has committed.
    change(state="in_flight", response_status=None, completed_at=None)
    answers = [missing, reused, post_by_browser(client)]
    types = {each.headers["Content-Type"] for each in answers}
    assert types == {"text/html; charset=utf-8"}
    return {each.status_code: each.content.decode() for each in answers}


def test_browser_that_sent_a_form_gets_pages() -> None:
    """They say in their headings what happened, and hold no key."""
    pages = pages_in_place_of_the_view()

    assert {
        status: re.findall(r"<h1>(.*?)</h1>", unescape(page))
        for status, page in pages.items()
    } == {
        400: ["This form can't be sent from here"],
        422: ["You have sent this form before"],
        409: ["Your first click is still being worked on"],
    }
    assert not [page for page in pages.values() if GUEST_KEY in page]
    reloadable = {each for each, page in pages.items() if "Reload this page" in page}
    assert reloadable == {409}


def templates(**sources: str) -> Any:
    """The tests' own settings, with these templates of the project."""
    named = {
        f"django_idempotency/{name.replace('_', '-')}.html": source
        for name, source in sources.items()
    }
    loaders = [
        ("django.template.loaders.locmem.Loader", named),
        "django.template.loaders.app_directories.Loader",
    ]
    processors = [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        f"{__name__}.menu",
    ]
    return override_settings(
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {"loaders": loaders, "context_processors": processors},
            }
        ]
    )


@cases(
    "overridden, expected",
    {
        "one code": ({"key_reused": "Ours"}, [None, "Ours", None]),
        "all": ({"problem": "{{ code }}"}, ["key-missing", "key-reused", "in-flight"]),
    },
)
def test_project_overrides_pages(
    overridden: dict[str, str], expected: list[str | None]
) -> None:
    with templates(**overridden):
        pages = pages_in_place_of_the_view()

    assert [
        pages[status] if "doctype" not in pages[status] else None
        for status in (400, 422, 409)
    ] == expected


def test_page_of_the_project_knows_the_request() -> None:
    with templates(problem="{{ request.path }} {{ user.username }}"):
        client = Browser().sign_in().client
        client.handler.enforce_csrf_checks = False
        response = client.post("/order/", "amount=1", content_type=URLENCODED)

    assert response.content == b"/order/ ann"


def menu(request: HttpRequest) -> dict[str, Any]:
    """A context processor with a query, as on the pages of most projects."""
    return {"orders": Order.objects.all()}


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_page_that_needs_the_unreachable_database_gives_way_to_ours(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Else the answer to "come back later" would be a crash."""
    client = Client(headers={"Accept": ACCEPT})
    with (
        templates(problem="{% for each in orders %}{% endfor %}"),
        monkeypatch.context() as unreachable,
    ):
        unreachable.setitem(connection.settings_dict, "PORT", "1")
        connection.close()
        response = post_by_browser(client)

    assert response.status_code == 503
    assert_is_our_page(response, "store-unavailable", caplog)


def test_page_that_raises_gives_way_to_ours(caplog: pytest.LogCaptureFixture) -> None:
    """A refusal that becomes a 500 would be sent again by every client."""
    client = Client(headers={"Accept": ACCEPT})
    with templates(problem="{% include 'nowhere.html' %}{% url 'nowhere' %}"):
        response = client.post("/order/", "amount=1", content_type=URLENCODED)

    assert response.status_code == 400
    assert_is_our_page(response, "key-missing", caplog)


def assert_is_our_page(
    response: Any, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert response.content.startswith(b"<!doctype html>")
    assert code not in response.content.decode()
    message = f"The project's page for the problem {code} can't be rendered; the package's own was sent."
    assert message in caplog.messages
