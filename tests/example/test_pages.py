"""The shop's pages: what they show, and what they answer to a form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings

from example_project.checkout.models import Product
from example_project.shop.csp import content_security_policy

pytestmark = [pytest.mark.django_db, pytest.mark.urls("example_project.urls")]

TEMPLATES = Path(__file__).parents[2] / "example_project" / "shop" / "templates"


def test_front_page_is_the_shop(client: Client) -> None:
    assert client.get("/").headers["Location"] == "/shop/"


def test_products_are_shown_with_their_prices(client: Client) -> None:
    Product.objects.create(name="Coffee", price_minor=1250)

    page = client.get("/shop/").content.decode()

    assert "Coffee" in page
    assert "12.50 EUR" in page


@pytest.mark.parametrize(
    "path", sorted(TEMPLATES.rglob("*.html")), ids=lambda p: p.name
)
def test_template_has_no_script_or_style_of_its_own(path: Path) -> None:
    source = path.read_text(encoding="utf-8")

    assert not re.search(r"<style|<script(?![^>]*\ssrc=)|\sstyle=|\son\w+=", source)


@override_settings(SECURE_CSP={"default-src": ["'self'"], "object-src": ["'none'"]})
def test_policy_is_sent_along_on_django_without_a_middleware_for_it() -> None:
    respond = content_security_policy(lambda request: HttpResponse())

    response = respond(RequestFactory().get("/"))

    assert response.headers["Content-Security-Policy"] == (
        "default-src 'self'; object-src 'none'"
    )


@override_settings(SECURE_CSP={"default-src": ["'self'"]})
def test_policy_of_a_view_is_left_alone() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(headers={"Content-Security-Policy": "default-src 'none'"})

    response = content_security_policy(view)(RequestFactory().get("/"))

    assert response.headers["Content-Security-Policy"] == "default-src 'none'"
