"""What middleware makes of a replay is what it makes of the first answer.

Django's middleware reads more of a response than its status, headers and body. The table
has everything that Django's own decorators and middleware leave on one, or look for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
from django.http import (
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
)
from django.http.response import HttpResponseBase
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import path
from django.views.decorators import cache, clickjacking, vary
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from tests.support.ordering import is_replay, send, signed_in_client

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

MIDDLEWARE = [
    "django.middleware.cache.UpdateCacheMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.middleware.common.BrokenLinkEmailsMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django.middleware.cache.FetchFromCacheMiddleware",
]
View = Callable[..., HttpResponseBase]


def setting(**attributes: Any) -> Callable[[View], View]:
    """A decorator that leaves these attributes on the response."""

    def decorate(view: View) -> View:
        def decorated(request: Any) -> HttpResponseBase:
            response = view(request)
            for name, value in attributes.items():
                setattr(response, name, value)
            return response

        return decorated

    return decorate


DECORATORS: dict[str, Callable[[View], View]] = {
    "nothing": setting(),
    "frame-exempt": clickjacking.xframe_options_exempt,
    "frame-deny": clickjacking.xframe_options_deny,
    "frame-same-origin": clickjacking.xframe_options_sameorigin,
    "never-cache": cache.never_cache,
    "cache-control": cache.cache_control(max_age=60, public=True),
    "vary": vary.vary_on_headers("X-Name"),
    "reason": setting(reason_phrase="Paid in full"),
    "latin-1-reason": setting(reason_phrase="Payé"),
    "charset": setting(charset="latin-1"),
}
SETTINGS: dict[str, Any] = {"MIDDLEWARE": MIDDLEWARE}
if find_spec("django.utils.csp"):  # Django 6.0
    from django.utils.csp import CSP
    from django.views.decorators import csp

    MIDDLEWARE.append("django.middleware.csp.ContentSecurityPolicyMiddleware")
    SETTINGS |= {
        "SECURE_CSP": {"script-src": [CSP.SELF, CSP.NONCE]},
        "SECURE_CSP_REPORT_ONLY": {"img-src": [CSP.SELF]},
    }
    wide: Any = {
        "default-src": [CSP.SELF, CSP.NONCE],
        "img-src": {"b.test", "a.test"},
        "font-src": ("c.test",),
        "style-src": "d.test",
        "upgrade-insecure-requests": True,
        "frame-src": None,
    }
    DECORATORS |= {
        "csp": csp.csp_override(wide),
        "csp-off": csp.csp_override({}),
        "csp-none": setting(_csp_config=None),
        "csp-report": csp.csp_report_only_override(wide),
        "csp-both": lambda view: csp.csp_override(wide)(
            csp.csp_report_only_override({})(view)
        ),
    }


def page(request: Any) -> HttpResponse:
    """It uses the nonce of the policy, as each page with a script of its own does."""
    nonce = getattr(getattr(request, "_request", request), "_csp_nonce", "")
    template = engines["django"].from_string("<script nonce='{{ nonce }}'></script>")
    return TemplateResponse(request, template, {"nonce": nonce}, status=201)


ANSWERS: dict[str, View] = {
    "text": lambda request: HttpResponse(b"\xe9", "text/plain", 201),
    "page": page,
    "json": lambda request: JsonResponse({"order": 1}),
    "redirect": lambda request: HttpResponseRedirect("/thanks/"),
    "nothing": lambda request: HttpResponse(status=204),
    "missing": lambda request: HttpResponse(status=404),
}
FRAMEWORK_ANSWERS: dict[str, View] = {
    **ANSWERS,
    "data": lambda request: Response({"order": 1}, status=201),
    "no-data": lambda request: Response(status=204),
}


def mixed(view: View) -> Any:
    class Mixed(IdempotencyMixin, APIView):
        def post(self, request: Request) -> Any:
            return view(request)

    return Mixed.as_view()


def below(view: View) -> Any:
    return api_view(["POST"])(idempotent(lambda request: view(request)))


PLACEMENTS: dict[str, tuple[Callable[[View], Any], dict[str, View]]] = {
    "plain": (idempotent, ANSWERS),
    "mixin": (mixed, FRAMEWORK_ANSWERS),
    "below": (below, FRAMEWORK_ANSWERS),
}
urlpatterns = [
    path(f"{placement}/{decorator}/{answer}/", protect(decorate(view)))
    for placement, (protect, answers) in PLACEMENTS.items()
    for decorator, decorate in DECORATORS.items()
    for answer, view in answers.items()
]


def seen(response: Any) -> dict[str, Any]:
    """What there is to see of an answer, but for the mark of a replay.

    And for how long it is kept: where a claim doesn't return it, the first answer says
    it by the clock of its process, which `test_endings` compares.
    """
    headers = dict(response.headers)
    for name in ("Idempotency-Replayed", "Idempotency-Expires"):
        headers.pop(name, None)
    names = ("status_code", "reason_phrase", "charset", "content")
    return {**{name: getattr(response, name) for name in names}, "headers": headers}


@pytest.mark.parametrize("url", [f"/{each.pattern}" for each in urlpatterns])
def test_client_sees_of_a_replay_what_it_saw_of_the_first_answer(
    url: str, settings: Any
) -> None:
    for name, value in SETTINGS.items():
        setattr(settings, name, value)
    client = signed_in_client()
    first, again = (send(client, url) for _ in range(2))

    assert [is_replay(first), is_replay(again)] == [False, True]
    assert seen(again) == seen(first)
