"""A customer reads a refusal in one language, whichever part of it they look at."""

import json
import struct
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import path
from django.utils import translation

from django_idempotency.core.keys import parse_key, require_unguessable
from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import InvalidKey
from django_idempotency.http.people import FOR_PEOPLE
from django_idempotency.http.problems import (
    KEY_MISSING,
    PROBLEMS,
    Problem,
    problem_response,
)
from tests.support.cases import cases
from tests.support.ordering import FORM

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
HINTS = [
    "Reload this page to try again: nothing will be done twice.",
    "Your browser takes you back to the page that you came from.",
]
REASONS = [
    "A key without quotes can't contain a comma, a double quote or a backslash; was "
    "the header sent twice?",
    "Sign in to send an idempotency key.",
    "The key contains characters other than visible ASCII.",
    "The key in the header and the key in the form differ.",
    "The key is a quoted string with broken quoting.",
    "The key is empty.",
    "The key is longer than %(count)s characters.",
    "Without signing in, the key must be unguessable: a random UUID (version 4 or 7), "
    "a ULID, or at least 21 random characters of A-Z, a-z, 0-9, '_' and '-'.",
]
each_problem = cases("problem", {each.code: each for each in PROBLEMS})

urlpatterns = [path("orders/", idempotent(lambda request: HttpResponse("done")))]

pytestmark = pytest.mark.urls(__name__)


def in_german(text: object) -> str:
    return f"Deutsch: {text}"


def compiled(messages: dict[str, str]) -> bytes:
    """The messages as gettext's own compiler writes them."""
    pairs = sorted((key.encode(), value.encode()) for key, value in messages.items())
    tables, texts = [], b""
    start = 28 + 16 * len(pairs)
    for column in (0, 1):
        for pair in pairs:
            tables.append(struct.pack("<2I", len(pair[column]), start + len(texts)))
            texts += pair[column] + b"\0"
    second = 28 + 8 * len(pairs)
    head = struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, second, 0, 0)
    return head + b"".join(tables) + texts


@pytest.fixture(autouse=True)
def project_in_german(tmp_path: Path, settings: Any) -> None:
    """A project that brings a translation of its own, as any project can."""
    texts = [str(text) for each in PROBLEMS for text in (each.title, each.detail)]
    pages = [str(text) for each in FOR_PEOPLE.values() for text in each]
    messages = {each: in_german(each) for each in [*texts, *pages, *REASONS, *HINTS]}
    settings.LOCALE_PATHS = [with_catalogue(tmp_path, messages)]


def with_catalogue(folder: Path, messages: dict[str, str]) -> Path:
    catalogue = folder / "de" / "LC_MESSAGES" / "django.mo"
    catalogue.parent.mkdir(parents=True)
    head = {"": "Content-Type: text/plain; charset=UTF-8\n"}
    catalogue.write_bytes(compiled(head | messages))
    return folder


def refused(problem: Problem, **headers: str) -> HttpResponse:
    request = RequestFactory().post("/", b"a=1", content_type=FORM, headers=headers)
    with translation.override("de"):
        return problem_response(problem, request, reason=in_german("reason"))


def expected_detail(problem: Problem) -> str:
    if problem.detail == "{reason}":
        return in_german("reason")
    return in_german(str(problem.detail).format(header="Idempotency-Key"))


@each_problem
def test_document_is_translated_and_its_code_is_not(problem: Problem) -> None:
    document = json.loads(refused(problem).content)

    assert (document["title"], document["detail"], document["code"]) == (
        in_german(problem.title),
        expected_detail(problem),
        problem.code,
    )


@pytest.mark.parametrize("mistaken", ["{kopf} fehlt", "{} fehlt", "{ fehlt"])
def test_mistake_of_a_translation_is_no_fault_of_the_request(
    mistaken: str, tmp_path: Path, settings: Any
) -> None:
    detail = str(KEY_MISSING.detail)
    settings.LOCALE_PATHS = [with_catalogue(tmp_path / "own", {detail: mistaken})]

    document = json.loads(refused(KEY_MISSING).content)

    assert document["detail"] == detail.format(header="Idempotency-Key")


@each_problem
def test_page_is_in_one_language(problem: Problem) -> None:
    page = unescape(refused(problem, Accept=BROWSER).content.decode())

    for sentence in FOR_PEOPLE[problem.code]:
        assert page.count(str(sentence)) == page.count(in_german(sentence)) > 0
    told = [page.count(each) == page.count(in_german(each)) for each in HINTS]
    assert all(told)
    assert '<html lang="de" dir="ltr">' in page


@pytest.mark.parametrize("own", [False, True], ids=["page", "when-it-fails"])
def test_page_is_read_from_the_right_in_arabic(own: bool, settings: Any) -> None:
    settings.TEMPLATES = [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {"context_processors": ["nowhere"] if own else []},
        }
    ]
    request = RequestFactory().post(
        "/", b"a=1", content_type=FORM, headers={"Accept": BROWSER}
    )
    with translation.override("ar"):
        page = problem_response(PROBLEMS[0], request).content.decode()

    assert '<html lang="ar" dir="rtl">' in page


@pytest.mark.parametrize(
    ("read", "key"),
    [
        *((parse_key, key) for key in ("", " ", "x" * 256, "é", '"', "a,b")),
        (require_unguessable, "1"),
    ],
)
def test_reason_is_translated(read: Callable[[str], object], key: str) -> None:
    with translation.override("de"), pytest.raises(InvalidKey, match="Deutsch: "):
        read(key)


@pytest.mark.parametrize("anonymous", ["allow", "refuse"])
@pytest.mark.parametrize(
    ("header", "form"),
    [*((each, {}) for each in ("", "1", "a,b")), ("1", {"idempotency_key": "2"})],
)
def test_language_is_the_customer_s(
    header: str, form: dict[str, str], anonymous: str, settings: Any
) -> None:
    settings.IDEMPOTENCY_ANONYMOUS = anonymous
    settings.MIDDLEWARE = ["django.middleware.locale.LocaleMiddleware"]
    headers = {"Idempotency-Key": header, "Accept-Language": "de"}

    response = Client().post("/orders/", form, headers=headers)

    problem = response.json()
    assert response.headers["Content-Language"] == "de"
    assert problem["title"].startswith("Deutsch: ")
    assert problem["detail"].startswith("Deutsch: ")
