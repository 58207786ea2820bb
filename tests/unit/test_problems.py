import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.template.response import TemplateResponse
from django.test import RequestFactory, override_settings
from rest_framework.response import Response

from django_idempotency.http import problems
from django_idempotency.http.problems import PROBLEMS, Problem, problem_response
from tests.support.cases import cases

BASE_URL = (
    "https://django-idempotency.readthedocs.io/en/stable/reference/problems.html#"
)
each_problem = cases("problem", {each.code: each for each in PROBLEMS})
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def response_to(
    problem: Problem,
    *,
    content_type: str = JSON,
    accept: str = "*/*",
    reason: str = "The key is empty.",
) -> HttpResponse:
    request = RequestFactory().post(
        "/orders/", b"a=1", content_type=content_type, headers={"Accept": accept}
    )
    return problem_response(problem, request, reason=reason)


def document_of(problem: Problem) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(response_to(problem).content)
    return document


def test_codes_and_statuses_are_those_that_clients_know() -> None:
    assert {problem.code: problem.status for problem in PROBLEMS} == {
        "key-missing": 400,
        "key-invalid": 400,
        "key-foreign": 400,
        "sign-in-required": 401,
        "body-too-large": 413,
        "key-reused": 422,
        "possible-duplicate": 409,
        "in-flight": 409,
        "outcome-unknown": 409,
        "call-refused": 402,
        "answer-unavailable": 409,
        "answer-expired": 409,
        "store-unavailable": 503,
        "operation-unknown": 404,
        "unfinished": 409,
        "state-unavailable": 503,
        "ask-invalid": 400,
    }


def test_programs_are_told_what_they_may_do_by_themselves() -> None:
    """Never to send again under a new key what may have been done."""
    assert problems.RETRY == {
        "key-missing": "new-key",
        "key-invalid": "new-key",
        "key-foreign": "new-key",
        "sign-in-required": "no",
        "body-too-large": "new-key",
        "key-reused": "no",
        "possible-duplicate": "no",
        "in-flight": "same-key",
        "outcome-unknown": "no",
        "call-refused": "new-key",
        "answer-unavailable": "no",
        "answer-expired": "no",
        "store-unavailable": "same-key",
        "operation-unknown": "same-key",
        "unfinished": "same-key",
        "state-unavailable": "same-key",
        "ask-invalid": "no",
    }
    assert list(problems.RETRY) == [each.code for each in PROBLEMS]


@each_problem
def test_document_has_the_members_of_rfc_9457_and_the_code(problem: Problem) -> None:
    response = response_to(problem)
    detail = problem.detail.format(header="Idempotency-Key", reason="The key is empty.")

    assert json.loads(response.content) == {
        "type": BASE_URL + problem.code,
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "code": problem.code,
        "retry": problems.RETRY[problem.code],
    }
    assert response.status_code == problem.status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert re.fullmatch(r"[A-Z][^{}]+\.", detail)  # whole sentences


@pytest.mark.parametrize("content_type", [JSON, FORM])
@each_problem
def test_only_what_passes_by_itself_says_when_to_come_back(
    problem: Problem, content_type: str
) -> None:
    response = response_to(problem, content_type=content_type, accept=BROWSER)
    passes = ("in-flight", "store-unavailable", "state-unavailable")

    assert response.headers.get("Retry-After") == (
        "1" if problem.code in passes else None
    )


@override_settings(IDEMPOTENCY_HEADER="X-Request-Token")
def test_missing_key_names_the_configured_header() -> None:
    assert "X-Request-Token header" in document_of(problems.KEY_MISSING)["detail"]


@override_settings(IDEMPOTENCY_PROBLEM_BASE_URL="/help/")
def test_type_leads_to_the_configured_place() -> None:
    assert document_of(problems.IN_FLIGHT)["type"] == "/help/in-flight"


@cases(
    "content_type, accept, expected",
    {
        "form": (FORM, BROWSER, "text/html; charset=utf-8"),
        "multipart": (MULTIPART, BROWSER, "text/html; charset=utf-8"),
        "script-in-a-page": (JSON, BROWSER, "application/problem+json"),
        "curl-form": (FORM, "*/*", "application/problem+json"),
        "form-by-script": (FORM, JSON, "application/problem+json"),
        "accepts-nothing": (FORM, "", "application/problem+json"),
    },
)
def test_only_a_browser_that_sent_a_form_gets_a_page(
    content_type: str, accept: str, expected: str
) -> None:
    response = response_to(
        problems.KEY_REUSED, content_type=content_type, accept=accept
    )

    assert response.headers["Content-Type"] == expected


HERE = "http://testserver"
OF_PROGRAMS = re.compile(
    r"idempoten|header|payload|request|server|json|token|parameter|status"
    r"|retry|\bkeys?\b|\b[45]\d\d\b",
    re.IGNORECASE,
)


def page_of(problem: Problem, **headers: str) -> str:
    request = RequestFactory().post(
        "/orders/", b"a=1", content_type=FORM, headers={"Accept": BROWSER, **headers}
    )
    response = problem_response(problem, request, reason="The key is empty.")
    assert response.status_code == problem.status
    return unescape(response.content.decode())


@each_problem
def test_people_are_told_in_their_words(problem: Problem) -> None:
    """Nobody who has pressed a button knows of keys, headers and requests."""
    page = page_of(problem)
    [heading] = re.findall(r"<h1>(.*?)</h1>", page)
    paragraphs = re.findall(r"<p>(.*?)</p>", page)

    assert len(paragraphs) >= 2
    for text in (heading, *paragraphs):
        assert not OF_PROGRAMS.findall(text)
    assert all(re.fullmatch(r"[A-Z][^{}]+\.", text) for text in paragraphs)
    assert heading in page.partition("</title>")[0]


@each_problem
def test_page_says_how_to_go_on(problem: Problem) -> None:
    """Reload what passes by itself; else go back, also without knowing to where.

    A form that is opened anew has another key: nobody is led there from an operation
    that may be running.
    """
    passes = problem.retry_after_seconds is not None
    from_form, from_nowhere = (
        page_of(problem, Referer=f"{HERE}/cart/"),
        page_of(problem),
    )

    assert ("Reload this page" in from_form) is passes
    assert f'<a href="{HERE}/cart/">' in from_form or passes
    assert "<a " not in (from_form if passes else from_nowhere)
    assert ("back" in from_nowhere) is not passes


@pytest.mark.parametrize(
    "page",
    [
        "",
        "/cart/",
        "https://elsewhere.example/cart/",
        "http://testserver.elsewhere.example/",
        "http://user@elsewhere.example/testserver",
        "//elsewhere.example/",
        "javascript:alert(1)",
        "http://testserver:81/",
        "no address",
    ],
)
def test_page_leads_back_to_the_same_site_only(page: str) -> None:
    assert "<a " not in page_of(problems.KEY_REUSED, Referer=page)


@cases(
    "age, sentence",
    {
        "at once": (0, "The first one was 0 seconds ago."),
        "a second": (1, "The first one was 1 second ago."),
        "two minutes": (119, "The first one was 119 seconds ago."),
        "longer": (120, ""),  # nobody counts so many seconds
    },
)
def test_page_says_when_the_first_one_was(age: int, sentence: str) -> None:
    request = RequestFactory().post("/", {"a": "1"}, headers={"Accept": BROWSER})
    first: dict[str, str | int] = {"reference": "A7C1-11BF", "age_seconds": age}
    page = problem_response(problems.POSSIBLE_DUPLICATE, request, first=first)

    told = re.findall(r"<p>(The first one was.*?)</p>", page.content.decode())
    assert told == [sentence] * bool(sentence)


@pytest.mark.parametrize("host", ["elsewhere.example", "a b"])
def test_host_that_is_not_allowed_leads_nowhere(host: str) -> None:
    page = page_of(problems.KEY_REUSED, Referer=f"http://{host}/", Host=host)

    assert "<a " not in page
    assert "back" in page


def test_page_escapes_where_it_leads_to() -> None:
    request = RequestFactory().post(
        "/orders/",
        b"a=1",
        content_type=FORM,
        headers={"Accept": BROWSER, "Referer": f'{HERE}/?a="><script>'},
    )
    response = problem_response(problems.KEY_REUSED, request)

    assert b'/?a=&quot;&gt;&lt;script&gt;"' in response.content


@override_settings(TEMPLATES=[])
def test_project_without_templates_answers_a_form_with_the_document() -> None:
    response = response_to(problems.KEY_REUSED, content_type=FORM, accept=BROWSER)

    assert response.headers["Content-Type"] == "application/problem+json"


# The project's own format


def in_its_format(request: HttpRequest, problem: dict[str, Any]) -> HttpResponse:
    problem = {"error": problem.pop("code"), "was": problem}
    return JsonResponse(problem, status=418)


HOOKS: dict[str, Callable[[Any, Any], Any]] = {
    "nothing": lambda request, problem: None,
    "another thing": lambda request, problem: problem,
    "success": lambda request, problem: HttpResponse("done"),
    "redirect": lambda request, problem: HttpResponseRedirect("/"),
    "stream": lambda request, problem: StreamingHttpResponse(["no"], status=400),
    # What is rendered only after we have let it go.
    "template": lambda request, problem: TemplateResponse(request, "?", status=400),
    "rest framework's": lambda request, problem: Response(problem, status=400),
    "changed": lambda request, problem: problem.clear(),
    "error": lambda request, problem: problem["?"],
}


def hook(request: HttpRequest, problem: dict[str, Any]) -> Any:
    return HOOKS[request.headers["X-Hook"]](request, problem)


def answered_by(path: str | None, problem: Problem, **headers: str) -> HttpResponse:
    request = RequestFactory().post(
        "/orders/", b"a=1", content_type=FORM, headers={"Accept": BROWSER, **headers}
    )
    with override_settings(IDEMPOTENCY_PROBLEM_RESPONSE=path):
        return problem_response(problem, request, reference="abc", state="held")


@each_problem
def test_project_answers_in_its_own_format_with_the_headers_of_ours(
    problem: Problem,
) -> None:
    own = response_to(problem)
    response = answered_by(f"{__name__}.in_its_format", problem)

    assert response.status_code == 418
    assert json.loads(response.content)["error"] == problem.code
    for name in ("Retry-After", "WWW-Authenticate"):
        assert response.headers.get(name) == own.headers.get(name)
    assert response.headers["Idempotency-Reference"] == "abc"


@each_problem
@pytest.mark.parametrize("name", HOOKS)
def test_refusal_never_becomes_a_success_or_a_fault_by_the_project(
    name: str, problem: Problem, caplog: pytest.LogCaptureFixture
) -> None:
    response = answered_by(f"{__name__}.hook", problem, **{"X-Hook": name})
    own = answered_by(None, problem)

    assert getattr(response, "is_rendered", True)
    assert (response.status_code, response.content, response.items()) == (
        problem.status,
        own.content,
        own.items(),
    )
    assert bool(caplog.records) is (name not in ("nothing", "changed"))


def test_hook_that_is_not_there_answers_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert answered_by("nowhere.hook", problems.IN_FLIGHT).status_code == 409
    assert "IDEMPOTENCY_PROBLEM_RESPONSE = 'nowhere.hook'" in caplog.text
