"""A page with a key is made anew for each visitor, and what was copied sells nothing."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.cache import cache
from django.http import HttpResponse
from django.template import engines
from django.test import AsyncClient, Client
from django.urls import path
from django.utils.decorators import method_decorator
from django.views.decorators.cache import cache_page, never_cache
from rest_framework.decorators import api_view, renderer_classes

from django_idempotency.decorators import idempotent
from tests.support.browser import hidden_fields, key_in
from tests.support.cases import cases
from tests.support.ordering import is_replay, orders, word

from .pages import Html, RestShop, Shop, rest_shop, shop, shop_async, shop_later

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]


@method_decorator(idempotent, name="dispatch")
class OnDispatch(Shop): ...


@method_decorator(idempotent, name="post")
class OnPost(Shop): ...


@method_decorator(cache_page(60), name="dispatch")
class CachedOnDispatch(OnDispatch): ...


@method_decorator(cache_page(60), name="get")
class CachedOnGet(OnPost): ...


@method_decorator(cache_page(60), name="get")
class RestCachedOnGet(RestShop): ...


A_MINUTE = timedelta(minutes=1)
DECORATED = {
    "function": idempotent(shop),
    "leased": idempotent(lease=A_MINUTE)(shop),
    "template-response": idempotent(shop_later),
    "dispatch": OnDispatch.as_view(),
    "as-view": idempotent(Shop.as_view()),
    "mixin": RestShop.as_view(),
    "api-view": api_view(["GET", "POST"])(
        renderer_classes([Html])(idempotent(rest_shop))
    ),
}
OTHERS = {
    "undecorated": shop,
    "undecorated-template-response": shop_later,
    "post-alone": OnPost.as_view(),
}
CACHED = {
    **{f"cache-above-{name}": cache_page(60)(view) for name, view in DECORATED.items()},
    **{f"cache-above-{name}": cache_page(60)(view) for name, view in OTHERS.items()},
    "cache-below-function": idempotent(cache_page(60)(shop)),
    "cache-below-template-response": idempotent(cache_page(60)(shop_later)),
    "cache-on-dispatch": CachedOnDispatch.as_view(),
    "cache-on-get": CachedOnGet.as_view(),
    "cache-on-get-rest": RestCachedOnGet.as_view(),
}
urlpatterns = [
    path(f"{name}/<tag>/", view)
    for name, view in {
        **DECORATED,
        **OTHERS,
        **CACHED,
        "async": idempotent(lease=A_MINUTE)(shop_async),
    }.items()
]


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    cache.clear()


def directives(response: Any) -> set[str]:
    said = response.headers.get("Cache-Control", "")
    return set(said.split(", ")) if said else set()


@pytest.mark.parametrize("name", [*DECORATED, "async"])
@cases(
    "said, stays",
    {
        "nothing": (None, set()),
        "public": ("public, max-age=600", {"max-age=600"}),
        "no-cache": ("no-cache", {"no-cache"}),
        "revalidate": ("max-age=0, must-revalidate", {"max-age=0", "must-revalidate"}),
        "private-field": ('private="X-Name"', set()),
        "the-same": ("private, no-store", set()),
    },
)
@cases(
    "tag, added",
    {
        "fresh": ("fresh", {"private", "no-store"}),
        "derived": ("derived", {"private"}),
        "control": ("none", set()),
    },
)
@pytest.mark.django_db(transaction=True)
def test_page_with_a_key_is_kept_by_nobody(
    name: str, said: str | None, stays: set[str], tag: str, added: set[str]
) -> None:
    """And what the view has said of caches is made no weaker."""
    query = "" if said is None else f"?said={said}"
    get: Any = async_to_sync(AsyncClient().get) if name == "async" else Client().get
    response = get(f"/{name}/{tag}/{query}")

    assert response.status_code == 200
    if added:
        assert directives(response) >= added | stays
        assert "public" not in directives(response)
    else:
        assert response.headers.get("Cache-Control") == said


def buy(client: Client, page: Any) -> Any:
    """Press the button on a page."""
    return client.post("/function/none/", hidden_fields(page))


@pytest.mark.parametrize("site_wide", [False, True], ids=["per-view", "per-site"])
@pytest.mark.parametrize("name", [*CACHED, *DECORATED, *OTHERS])
def test_every_press_on_a_page_of_its_own_is_a_purchase(
    name: str, site_wide: bool, settings: Any
) -> None:
    """Of two guests who buy twice each, whatever Django's own cache is told to keep."""
    if site_wide:
        before = "django.middleware.cache.UpdateCacheMiddleware"
        after = "django.middleware.cache.FetchFromCacheMiddleware"
        settings.MIDDLEWARE = [before, *settings.MIDDLEWARE, after]
    guests = [Client(), Client()]
    answers = [
        buy(guest, guest.get(f"/{name}/fresh/")) for _ in range(2) for guest in guests
    ]

    assert [word(each) for each in answers] == ["302"] * 4
    assert (len({each.headers["Location"] for each in answers}), orders()) == (4, 4)


@cases(
    "url, copied",
    {
        "fragment": ("/function/fragment/", False),
        "fragment-rest": ("/mixin/fragment/", False),
        "copy-of-a-page": ("/function/fresh/", True),
        "copy-of-a-derived-key": ("/function/derived/", True),
    },
)
@pytest.mark.parametrize("has_cookie", [False, True], ids=["first-visit", "known"])
def test_copy_of_a_page_tells_no_guest_of_another(
    url: str, copied: bool, has_cookie: bool
) -> None:
    """A fragment is copied by Django and a page by a proxy, unseen by the tag."""
    first, second = Client(), Client()
    if has_cookie:
        second.get("/undecorated/fresh/")
    page = first.get(url)
    theirs = page if copied else second.get(url)
    answers = [buy(first, page), buy(second, theirs)]

    assert key_in(page) == key_in(theirs)
    assert [word(each) for each in answers] == ["302", "400 key-foreign"]
    assert not any(map(is_replay, answers))
    assert orders() == 1


@pytest.mark.parametrize("name", DECORATED)
def test_page_that_is_sent_again_is_kept_by_nobody(name: str) -> None:
    """A form with errors comes back with a key, and is stored with its headers."""
    client = Client()
    form = hidden_fields(client.get(f"/{name}/fresh/"))
    answers = [client.post(f"/{name}/fresh/?wrong", form) for _ in range(2)]

    assert [word(each) for each in answers] == ["400", "400 replayed"]
    assert [directives(each) for each in answers] == [{"private", "no-store"}] * 2


# The how-to's own lines

HOWTO = Path(__file__).resolve().parents[3] / "docs" / "howto" / "forms.md"
SECTION = HOWTO.read_text(encoding="utf-8").partition("\n## Pages and caches\n")[2]
FENCED = r"^```{}\n(.*?)^```$"


def block(language: str) -> str:
    found = re.search(FENCED.format(re.escape(language)), SECTION, re.M | re.S)
    assert found is not None
    return found[1]


def test_howto_shows_how_to_keep_a_form_and_cache_its_rest(settings: Any) -> None:
    product = SimpleNamespace(pk=7, name="Coffee")
    page = engines["django"].from_string(block("html+django"))
    names: dict[str, Any] = {
        "__name__": "shop.views",
        "never_cache": never_cache,
        "render": lambda request, _, context: HttpResponse(
            page.render(context, request)
        ),
        "get_object_or_404": lambda _, pk: product,
        "Product": None,
    }
    exec(block("python"), names)  # noqa: S102 - our own page
    settings.ROOT_URLCONF = (
        path("products/<int:pk>/", names["product"]),
        path("buy/<int:pk>/", idempotent(shop), {"tag": "none"}, name="buy"),
    )
    pages = [Client().get("/products/7/")]
    product.name = "Tea"
    pages.append(Client().get("/products/7/"))

    assert all(b"Coffee" in each.content for each in pages)
    assert len({key_in(each) for each in pages}) == 2
    assert all(directives(each) >= {"private", "no-store"} for each in pages)
