"""HTML forms: the tag, the hidden field, and what a browser gets to see."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
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
from django.utils.timezone import now
from pytest_django import DjangoAssertNumQueries

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.testapp.models import Order

from .browser import URLENCODED, Browser, hidden_fields, key_in
from .ordering import GUEST_KEY, is_replay, orders, problem_code

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


# The tag


def rendered(source: str, request: HttpRequest | None = None, **context: Any) -> str:
    if request is None:
        request = RequestFactory().get("/")
        request.user = AnonymousUser()
    template = Template("{% load idempotency %}" + source)
    return template.render(RequestContext(request, context))


def test_each_rendering_has_a_key_of_its_own() -> None:
    browser = Browser()

    assert key_in(browser.visit("/order/")) != key_in(browser.visit("/order/"))


def test_fresh_key_is_a_random_uuid() -> None:
    assert uuid.UUID(key_in(Browser().visit("/order/"))).version == 4


@pytest.mark.parametrize("signed_in", [False, True], ids=["guest", "user"])
def test_derived_key_is_equal_on_every_rendering(signed_in: bool) -> None:
    browser = Browser().sign_in() if signed_in else Browser()
    keys = {key_in(browser.visit("/confirm/7/1/")) for _ in range(3)}

    assert len(keys) == 1


@pytest.mark.parametrize("other", ["/confirm/8/1/", "/confirm/7/2/", "/confirm/71/ /"])
def test_derived_key_differs_by_every_argument(other: str) -> None:
    browser = Browser().sign_in()

    assert key_in(browser.visit("/confirm/7/1/")) != key_in(browser.visit(other))


def test_arguments_of_derived_key_dont_run_together() -> None:
    browser = Browser().sign_in()

    assert key_in(browser.visit("/confirm/1/23/")) != key_in(
        browser.visit("/confirm/12/3/")
    )


def test_derived_key_differs_by_user() -> None:
    keys = {
        key_in(Browser().sign_in(name).visit("/confirm/7/1/"))
        for name in ("ann", "bob")
    }

    assert len(keys) == 2


def test_derived_key_is_the_users_own_in_each_of_his_browsers() -> None:
    keys = {key_in(Browser().sign_in().visit("/confirm/7/1/")) for _ in range(2)}

    assert len(keys) == 1


def test_derived_key_differs_between_the_browsers_of_two_guests() -> None:
    """FR-064: all guests are one principal, and the cart's number is no secret."""
    keys = {key_in(Browser().visit("/confirm/7/1/")) for _ in range(2)}

    assert len(keys) == 2


def test_derived_key_is_accepted_from_a_guest() -> None:
    browser = Browser()
    form = browser.fill_in("/confirm/7/1/")

    assert browser.press("/confirm/7/1/", form).status_code == 303


def test_derived_key_depends_on_the_secret_key() -> None:
    browser = Browser().sign_in()
    before = key_in(browser.visit("/confirm/7/1/"))
    with override_settings(SECRET_KEY="another", SECRET_KEY_FALLBACKS=["tests-only"]):  # noqa: S106
        after = key_in(browser.visit("/confirm/7/1/"))

    assert before != after


def tenant(request: HttpRequest) -> str:
    return f"tenant:{request.GET['tenant']}"


@override_settings(IDEMPOTENCY_PRINCIPAL=f"{__name__}.tenant")
def test_derived_key_goes_by_the_projects_principal() -> None:
    browser = Browser().sign_in()
    keys = [
        key_in(browser.visit(f"/confirm/7/1/?tenant={name}"))
        for name in ("a", "a", "b")
    ]

    assert (keys[0] == keys[1], keys[1] == keys[2]) == (True, False)


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


def test_page_with_a_key_is_never_shared_by_a_cache() -> None:
    response = Client().get("/order/")

    assert ("Cookie" in response.headers["Vary"], "csrftoken" in response.cookies) == (
        True,
        True,
    )


def test_tag_alone_keeps_a_page_out_of_shared_caches() -> None:
    request = RequestFactory().get("/")
    rendered("{% idempotency_key %}", request)

    assert request.META["CSRF_COOKIE_NEEDS_UPDATE"] is True


# The hidden field


def test_double_click_orders_once_and_leads_to_one_page() -> None:
    """FR-112: both posts land on the same confirmation."""
    browser = Browser().sign_in()
    form = browser.fill_in("/order/", amount="3")
    answers = [browser.press("/order/", form) for _ in range(2)]

    assert [(each.status_code, each.headers["Location"]) for each in answers] == [
        (303, f"/orders/{Order.objects.get().pk}/")
    ] * 2


def test_second_post_is_marked_as_a_replay() -> None:
    browser = Browser()
    form = browser.fill_in("/order/", amount="3")
    answers = [browser.press("/order/", form) for _ in range(2)]

    assert [is_replay(each) for each in answers] == [False, True]


def test_field_of_a_multipart_form_is_a_key() -> None:
    browser = Browser()
    form = browser.fill_in("/order/", amount="3")
    answers = [browser.client.post("/order/", form) for _ in range(2)]

    assert ([is_replay(each) for each in answers], orders()) == ([False, True], 1)


def test_form_fetched_anew_repeats_the_post_it_shares_a_derived_key_with() -> None:
    """The customer lost the answer, reloads the confirm page and presses Pay again."""
    browser = Browser()
    answers = [
        browser.press("/confirm/7/1/", browser.fill_in("/confirm/7/1/"))
        for _ in range(2)
    ]

    assert ([is_replay(each) for each in answers], orders()) == ([False, True], 1)


def test_csrf_token_that_is_masked_anew_is_no_other_payload() -> None:
    browser = Browser()
    forms = [browser.fill_in("/confirm/7/1/") for _ in range(2)]

    assert forms[0]["csrfmiddlewaretoken"] != forms[1]["csrfmiddlewaretoken"]
    assert [browser.press("/confirm/7/1/", each).status_code for each in forms] == [
        303,
        303,
    ]


@override_settings(IDEMPOTENCY_FIELD="once")
def test_configured_field_is_a_key() -> None:
    browser = Browser()
    form = browser.fill_in("/order/", amount="3")
    answers = [browser.press("/order/", form) for _ in range(2)]

    assert ("once" in form, is_replay(answers[1])) == (True, True)


def test_member_of_a_json_body_is_no_key() -> None:
    response = Client().post(
        "/order/", {"idempotency_key": GUEST_KEY}, content_type="application/json"
    )

    assert problem_code(response) == "key-missing"


def test_field_in_the_query_is_no_key() -> None:
    response = Client().post(f"/order/?idempotency_key={GUEST_KEY}", {"amount": "1"})

    assert problem_code(response) == "key-missing"


def post_with_header(header: str, field: str) -> ClientResponse:
    return Client().post(
        "/order/",
        {"amount": "1", "idempotency_key": field},
        headers={"Idempotency-Key": header},
    )


def test_header_and_field_that_differ_are_refused(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    with django_assert_num_queries(0):
        response = post_with_header(GUEST_KEY, str(uuid.uuid4()))

    assert (response.status_code, problem_code(response)) == (400, "key-invalid")


@pytest.mark.parametrize(
    "header", [GUEST_KEY, f'"{GUEST_KEY}"'], ids=["bare", "quoted"]
)
def test_header_and_field_that_agree_are_one_key(header: str) -> None:
    assert post_with_header(header, GUEST_KEY).status_code == 303


# Redirect after post


def test_reloading_the_result_page_orders_nothing() -> None:
    browser = Browser()
    posted = browser.press("/order/", browser.fill_in("/order/", amount="3"))
    for _ in range(2):
        browser.visit(posted.headers["Location"])

    assert orders() == 1


def test_next_visit_to_the_form_is_a_new_order() -> None:
    browser = Browser()
    for _ in range(2):
        browser.press("/order/", browser.fill_in("/order/", amount="3"))

    assert orders() == 2


def test_message_is_shown_on_the_first_result_page() -> None:
    browser = Browser().sign_in()
    posted = browser.press("/order/", browser.fill_in("/order/", amount="3"))

    assert b"Thank you!" in browser.visit(posted.headers["Location"]).content


def test_replay_shows_no_message_twice() -> None:
    """FR-069: a flash message belongs to the request that made it."""
    browser = Browser().sign_in()
    form = browser.fill_in("/order/", amount="3")
    for _ in range(2):
        posted = browser.press("/order/", form)
        shown = browser.visit(posted.headers["Location"]).content

    assert b"Thank you!" not in shown


def test_replay_in_another_browser_of_the_user_shows_no_message() -> None:
    """FR-069."""
    browsers = [Browser().sign_in() for _ in range(2)]
    for browser in browsers:
        form = browser.fill_in("/confirm/7/1/")
        posted = browser.press("/confirm/7/1/", form)
        shown = browser.visit(posted.headers["Location"]).content

    assert (is_replay(posted), b"Thank you!" in shown) == (True, False)


def test_form_found_after_a_replay_in_another_browser_works() -> None:
    """FR-069: the page behind the redirect is rendered for whoever asks."""
    browsers = [Browser().sign_in() for _ in range(2)]
    for browser in browsers:
        browser.press("/confirm/7/1/", browser.fill_in("/confirm/7/1/"))

    assert (
        browsers[1]
        .press("/order/", browsers[1].fill_in("/order/", amount="2"))
        .status_code
        == 303
    )


def test_replay_carries_no_cookie_of_the_first_answer() -> None:
    """FR-066: the cookie that holds the message is the first browser's."""
    browsers = [Browser().sign_in() for _ in range(2)]
    answers = [
        each.press("/confirm/7/1/", each.fill_in("/confirm/7/1/")) for each in browsers
    ]

    assert [sorted(each.cookies) for each in answers] == [["messages"], []]


# Validation errors


def test_form_with_errors_comes_back_with_another_key() -> None:
    browser = Browser()
    form = browser.fill_in("/order/", amount="0")
    refused = browser.press("/order/", form)

    assert key_in(refused) != form["idempotency_key"]


def test_form_with_errors_is_corrected_under_the_new_key() -> None:
    browser = Browser()
    refused = browser.press("/order/", browser.fill_in("/order/", amount="0"))
    corrected = browser.press("/order/", {**hidden_fields(refused), "amount": "3"})

    assert (corrected.status_code, orders()) == (303, 1)


def test_double_click_on_a_form_with_errors_gives_one_page_and_one_new_key() -> None:
    browser = Browser()
    form = browser.fill_in("/order/", amount="0")
    answers = [browser.press("/order/", form) for _ in range(2)]

    assert answers[0].content == answers[1].content


def test_form_corrected_by_the_back_button_is_told_to_start_anew() -> None:
    browser = Browser()
    form = browser.fill_in("/order/", amount="0")
    browser.press("/order/", form)
    corrected = browser.press("/order/", {**form, "amount": "3"})

    assert (corrected.status_code, orders()) == (422, 0)


# The session expires


@pytest.mark.parametrize("url", ["/members/", "/inside/"])
def test_login_redirect_is_never_kept(url: str) -> None:
    sent_away = Client().post(url, {"idempotency_key": GUEST_KEY})

    assert (sent_away.status_code, IdempotencyRecord.objects.count()) == (302, 0)


@pytest.mark.parametrize("url", ["/members/", "/inside/"])
def test_form_sent_again_after_signing_in_is_carried_out(url: str) -> None:
    client = Client()
    client.post(url, {"idempotency_key": GUEST_KEY})
    signed_in = Browser(client).sign_in().client
    answers = [signed_in.post(url, {"idempotency_key": GUEST_KEY}) for _ in range(2)]

    assert ([each.status_code for each in answers], orders()) == ([303, 303], 1)


# What is shown in place of an answer


@pytest.fixture
def read_only_database(transactional_db: None) -> Iterator[None]:
    """What a claim meets on a standby that was not told from the primary."""
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
        yield
        cursor.execute("RESET default_transaction_read_only")


def with_a_claim_in_the_way() -> None:
    """Turn the one record into a claim that somebody else has committed."""
    IdempotencyRecord.objects.update(
        state="in_flight", response_status=None, completed_at=None
    )


def post_by_browser(client: Client, key: str = GUEST_KEY, amount: str = "1") -> Any:
    return client.post(
        "/order/",
        f"amount={amount}&idempotency_key={key}",
        content_type=URLENCODED,
    )


def answers_in_place_of_the_view(accept: str) -> dict[int, ClientResponse]:
    """One answer of each kind that a form can meet while the database is well."""
    client = Client(headers={"Accept": accept})
    answers = [
        client.post("/order/", "amount=1", content_type=URLENCODED),
        post_by_browser(client),
        post_by_browser(client, amount="2"),
    ]
    with_a_claim_in_the_way()
    answers.append(post_by_browser(client))
    del answers[1]
    return {each.status_code: each for each in answers}


BROWSER = Browser().client.defaults["HTTP_ACCEPT"]


def test_browser_that_sent_a_form_gets_pages() -> None:
    answers = answers_in_place_of_the_view(BROWSER)

    assert {
        status: each.headers["Content-Type"] for status, each in answers.items()
    } == dict.fromkeys((400, 422, 409), "text/html; charset=utf-8")


def test_program_that_sent_a_form_gets_problem_documents() -> None:
    answers = answers_in_place_of_the_view("*/*")

    assert {status: problem_code(each) for status, each in answers.items()} == {
        400: "key-missing",
        422: "key-reused",
        409: "in-flight",
    }


def test_page_says_in_its_heading_what_happened() -> None:
    answers = answers_in_place_of_the_view(BROWSER)
    headings = {
        status: re.findall(r"<h1>(.*?)</h1>", each.content.decode())
        for status, each in answers.items()
    }

    assert headings == {
        400: ["An idempotency key is required"],
        422: ["The idempotency key was used for another request"],
        409: ["The first request with this key is still running"],
    }


def test_only_a_page_that_can_be_reloaded_says_so() -> None:
    answers = answers_in_place_of_the_view(BROWSER)
    invites = {
        status
        for status, each in answers.items()
        if b"Reload this page" in each.content
    }

    assert invites == {409}


def test_page_holds_no_key() -> None:
    answers = answers_in_place_of_the_view(BROWSER)

    assert not any(GUEST_KEY in each.content.decode() for each in answers.values())


def test_browser_gets_a_page_for_a_key_that_cant_be_used() -> None:
    response = post_by_browser(Client(headers={"Accept": BROWSER}), key="1")

    assert (response.status_code, b"must be unguessable" in response.content) == (
        400,
        True,
    )


@pytest.mark.postgresql
@pytest.mark.usefixtures("read_only_database")
def test_browser_gets_a_page_while_the_database_takes_nothing() -> None:
    response = post_by_browser(Client(headers={"Accept": BROWSER}))

    assert (response.status_code, response.headers["Content-Type"]) == (
        503,
        "text/html; charset=utf-8",
    )


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


def test_project_overrides_the_page_of_one_code() -> None:
    with templates(key_reused="Ours"):
        answers = answers_in_place_of_the_view(BROWSER)

    assert [status for status, each in answers.items() if each.content == b"Ours"] == [
        422
    ]


def test_project_overrides_all_pages_at_once() -> None:
    with templates(problem="{{ code }}"):
        answers = answers_in_place_of_the_view(BROWSER)

    assert {each.content for each in answers.values()} == {
        b"key-missing",
        b"key-reused",
        b"in-flight",
    }


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
def test_page_that_needs_the_unreachable_database_gives_way_to_the_document(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the answer to "come back later" would be a crash."""
    client = Client(headers={"Accept": BROWSER})
    with (
        templates(problem="{% for each in orders %}{% endfor %}"),
        monkeypatch.context() as unreachable,
    ):
        unreachable.setitem(connection.settings_dict, "PORT", "1")
        connection.close()
        response = post_by_browser(client)

    assert (response.status_code, problem_code(response)) == (503, "store-unavailable")


def test_expired_page_of_a_derived_form_is_a_new_order() -> None:
    """The record is past its retention: the same key is a new operation."""
    browser = Browser()
    form = browser.fill_in("/confirm/7/1/")
    browser.press("/confirm/7/1/", form)
    IdempotencyRecord.objects.update(expires_at=now())
    browser.press("/confirm/7/1/", form)

    assert orders() == 2
