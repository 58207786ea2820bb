"""What the shop's pages look like, lead to, and may run."""

import re
from pathlib import Path

import pytest
from django.apps import apps
from django.db.models import Model
from django.http import HttpResponse
from django.template import engines
from django.test import Client, RequestFactory, override_settings
from django.urls import reverse

from example_project.checkout.models import Product
from example_project.shop.csp import content_security_policy
from tests.example.factories import ProductFactory

from .conftest import Visitor, checkout_path, order_path

pytestmark = [pytest.mark.django_db, pytest.mark.urls("example_project.urls")]

PROJECT = Path(__file__).parents[3] / "example_project"
TEMPLATES = sorted(
    page
    for folder in (PROJECT / "templates", PROJECT / "shop" / "templates")
    for page in folder.rglob("*.html")
)


def test_front_page_is_the_shop_with_its_prices(client: Client) -> None:
    ProductFactory.create(price_minor=1250)

    page = client.get("/", follow=True).content.decode()

    assert "Coffee" in page
    assert "12.50 EUR" in page


def test_visit_to_what_takes_a_form_leads_to_the_form(
    guest: Visitor, coffee: Product
) -> None:
    cart = guest.fill_cart(coffee)
    guest.pay(cart)
    order, items = order_path(cart), f"/shop/carts/{cart.token}/"
    email = "/shop/account/email/"
    form_pages = {
        f"/shop/products/{coffee.pk}/add/": "/shop/",
        f"{items}items/{coffee.pk}/": items,
        checkout_path(cart): order,  # it is paid
        f"{order}refund/": order,
        email: f"/accounts/login/?next={email}",
    }

    led = {path: guest.client.get(path).headers["Location"] for path in form_pages}
    assert led == form_pages


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_template_has_no_script_or_style_of_its_own(path: Path) -> None:
    source = path.read_text(encoding="utf-8")

    assert not re.search(r"<style|<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=", source)


@pytest.mark.parametrize(
    "name", ["django_idempotency/in-flight.html", "shop/unconfirmed.html"]
)
def test_page_that_asks_for_the_same_form_again_sends_it(name: str) -> None:
    """Whatever was in it, and with the key that it had."""
    form = {"idempotency_key": "k", "email": 'a"b', "csrfmiddlewaretoken": "old"}

    page = rendered(name, form)

    assert '<input type="hidden" name="idempotency_key" value="k">' in page
    assert '<input type="hidden" name="email" value="a&quot;b">' in page
    assert 'value="old"' not in page


@pytest.mark.parametrize(
    ("can_be_repeated", "words"), [(True, "Try again"), (False, "See how things stand")]
)
def test_page_of_a_problem_says_how_to_go_on(can_be_repeated: bool, words: str) -> None:
    page = rendered(
        "django_idempotency/problem.html",
        {},
        title="Too bad",
        can_be_repeated=can_be_repeated,
    )

    assert "<h1>Too bad</h1>" in page
    assert words in page


def rendered(name: str, form: dict[str, str], **context: object) -> str:
    """The project's own, which the settings of the tests know nothing of."""
    request = RequestFactory().post("/shop/account/email/", form)
    [page] = [each for each in TEMPLATES if each.match(name)]
    template = engines["django"].from_string(page.read_text(encoding="utf-8"))
    return str(template.render(context, request))


@pytest.mark.parametrize(
    ("of_the_view", "sent"),
    [
        (None, "default-src 'self'; object-src 'none'"),
        ("default-src 'none'", "default-src 'none'"),
    ],
)
@override_settings(SECURE_CSP={"default-src": ["'self'"], "object-src": ["'none'"]})
def test_policy_is_sent_along_unless_the_view_has_its_own(
    of_the_view: str | None, sent: str
) -> None:
    """Where Django has no middleware for it."""
    name = "Content-Security-Policy"
    headers = {name: of_the_view} if of_the_view else {}
    respond = content_security_policy(lambda request: HttpResponse(headers=headers))

    assert respond(RequestFactory().get("/")).headers[name] == sent


# The admin


@pytest.mark.parametrize(
    "model", sorted(apps.get_app_config("checkout").get_models(), key=str)
)
def test_books_are_in_the_admin(admin_client: Client, model: type[Model]) -> None:
    path = reverse(f"admin:{model._meta.label_lower.replace('.', '_')}_changelist")

    assert admin_client.get(path).status_code == 200
