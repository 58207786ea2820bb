"""A key that the tag printed into a page is worth nothing in another guest's browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import path
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from django_idempotency.decorators import idempotent
from tests.support.browser import ACCEPT, Browser, key_in
from tests.support.cases import cases
from tests.support.ordering import GUEST_KEY, orders, word

from .pages import RestShop, shop

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

# Where Django learns the secret of the browser's CSRF token: by middleware, or by a
# decorator that the check of the key comes after or before.
VIEWS = {
    "plain": idempotent(shop),
    "exempt": csrf_exempt(idempotent(shop)),
    "protect-above": csrf_protect(idempotent(shop)),
    "protect-below": idempotent(csrf_protect(shop)),
    "rest": RestShop.as_view(),
}
urlpatterns = [path(f"{name}/<tag>/", view) for name, view in VIEWS.items()]

CSRF = "django.middleware.csrf.CsrfViewMiddleware"
FOREIGN = "400 key-foreign"


def browser() -> Browser:
    """Of somebody whose CSRF token a script sends, or on a view that wants none."""
    return Browser(Client())


def itself(page_of: Browser) -> Browser:
    return page_of


def another(page_of: Browser) -> Browser:
    """One that has a token of its own."""
    other = browser()
    for url in ("/plain/fresh/", "/protect-above/fresh/"):
        other.visit(url)
    return other


def without_cookies(page_of: Browser) -> Browser:
    return browser()


def signed_in(page_of: Browser) -> Browser:
    return page_of.sign_in("ann")


def another_signed_in(page_of: Browser) -> Browser:
    return another(page_of).sign_in("bob")


def session_over(page_of: Browser) -> Browser:
    page_of.client.cookies.pop("sessionid", None)
    return page_of


Sender = Callable[[Browser], Browser]
every_tag = pytest.mark.parametrize("tag", ["fresh", "derived"])
carried = pytest.mark.parametrize("in_header", [False, True], ids=["field", "header"])


@pytest.fixture(params=["cookie", "session", "decorator"])
def views(request: pytest.FixtureRequest, settings: Any) -> list[str]:
    """Views to which a browser's secret comes back: by a cookie, by the session, or
    without the middleware.
    """
    settings.CSRF_USE_SESSIONS = request.param == "session"
    if request.param == "decorator":
        settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if each != CSRF]
        return ["protect-above", "protect-below"]
    return list(VIEWS)


def send(who: Browser, url: str, key: str, *, in_header: bool = False) -> str:
    fields = {} if in_header else {"idempotency_key": key}
    headers = {"Idempotency-Key": key} if in_header else {}
    return word(who.client.post(url, fields, headers=headers))


@every_tag
@carried
@cases(
    "sender, answer",
    {
        "itself": (itself, "302"),
        "another": (another, FOREIGN),
        "without-cookies": (without_cookies, FOREIGN),
        "signed-in-meanwhile": (signed_in, "302"),
        "another-signed-in": (another_signed_in, "302"),
    },
)
def test_guest_s_key_is_the_browser_s_that_got_the_page(
    sender: Sender, answer: str, in_header: bool, tag: str, views: list[str]
) -> None:
    """Whoever is signed in has keys of their own by name."""
    answers = []
    for url in (f"/{name}/{tag}/" for name in views):
        guest = browser()
        key = key_in(guest.visit(url))
        answers.append(send(sender(guest), url, key, in_header=in_header))

    assert answers == [answer] * len(views)
    assert orders() == (0 if answer == FOREIGN else len(views))


@cases(
    "sender, fresh, derived",
    {
        "itself": (itself, "302", "302"),
        "another": (another, FOREIGN, FOREIGN),
        "without-cookies": (without_cookies, FOREIGN, FOREIGN),
        "another-signed-in": (another_signed_in, "302", "302"),
        # The view may ask to sign in; a derived key names the customer, who is gone.
        "session-over": (session_over, "302", FOREIGN),
    },
)
def test_key_on_the_page_of_a_customer_is_no_guest_s(
    sender: Sender, fresh: str, derived: str
) -> None:
    """So that a page that was made for a customer can't be shared by guests, either."""
    answers = []
    for url in ("/plain/fresh/", "/plain/derived/"):
        customer = browser().sign_in("ann")
        key = key_in(customer.visit(url))
        answers.append(send(sender(customer), url, key))

    assert answers == [fresh, derived]


@every_tag
def test_key_stays_good_after_the_secret_key_was_rotated(
    tag: str, settings: Any
) -> None:
    guest, url = browser(), f"/plain/{tag}/"
    key = key_in(guest.visit(url))
    settings.SECRET_KEY = "another"  # noqa: S105

    assert send(guest, url, key) == "302"


def test_foreign_key_is_refused_before_any_query(
    django_assert_num_queries: Any,
) -> None:
    key = key_in(browser().visit("/plain/fresh/"))
    with django_assert_num_queries(0):
        assert send(browser(), "/plain/fresh/", key) == FOREIGN


def test_customer_reads_what_to_do() -> None:
    key = key_in(browser().visit("/plain/fresh/"))
    other = Client(headers={"Accept": ACCEPT})
    refused = other.post("/plain/fresh/", {"idempotency_key": key})

    assert refused.status_code == 400
    assert "Open the page" in refused.content.decode()
    assert key not in refused.content.decode()


@carried
@pytest.mark.parametrize(
    "key", [GUEST_KEY, "x" * 43, "page-" + "x" * 45, f"page-{GUEST_KEY}"]
)
def test_key_that_the_tag_did_not_make_is_anybody_s(key: str, in_header: bool) -> None:
    """A project's own script or an API client has made it, and it is a secret."""
    answers = [
        send(browser(), "/plain/fresh/", key, in_header=in_header) for _ in range(2)
    ]

    assert answers == ["302", "302 replayed"]


@every_tag
def test_without_csrf_protection_nothing_tells_browsers_apart(
    tag: str, settings: Any
) -> None:
    settings.MIDDLEWARE = [each for each in settings.MIDDLEWARE if each != CSRF]
    key = key_in(browser().visit(f"/plain/{tag}/"))

    assert send(browser(), f"/plain/{tag}/", key) == "302"
