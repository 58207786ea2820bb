"""Problems as a person reads them, who has pressed a button and knows of no key."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from django.core.exceptions import DisallowedHost, ImproperlyConfigured
from django.http import HttpRequest
from django.template import Context, Engine, Template, TemplateDoesNotExist
from django.template.loader import select_template
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext_lazy as _

from .bodies import FORM, MULTIPART

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise as StrPromise

    from .problems import Problem

logger = logging.getLogger("django_idempotency")


class ForPeople(NamedTuple):
    """What a page says in place of a problem's title and detail."""

    title: StrPromise
    detail: StrPromise
    """What became of it, and what to do. How to go back is said by the page."""


OPEN_AGAIN = _(
    "Nothing was done. Open the page with the form again, and send it from there. If "
    "this happens again, please tell us."
)
LATER = _("Nothing was done now. Please wait a moment.")

FOR_PEOPLE: dict[str, ForPeople] = {
    "key-missing": ForPeople(_("This form can't be sent from here"), OPEN_AGAIN),
    "key-invalid": ForPeople(_("This form can't be sent from here"), OPEN_AGAIN),
    "key-foreign": ForPeople(
        _("This form was made for another browser"),
        _(
            "Nothing was done. Open the page with the form again, with cookies allowed, "
            "and send it from there."
        ),
    ),
    "sign-in-required": ForPeople(
        _("Please sign in first"),
        _("Nothing was done. Sign in, and send the form again."),
    ),
    "body-too-large": ForPeople(
        _("That is too much at once"),
        _("Nothing was done. Send less at a time, such as fewer or smaller files."),
    ),
    "key-reused": ForPeople(
        _("You have sent this form before"),
        _(
            "It had other entries then, and what came of it stands. Nothing was done "
            "now. If you want this as well, open the page with the form again."
        ),
    ),
    "possible-duplicate": ForPeople(
        _("You have just asked for the same"),
        # How to get a second one is said by the page.
        _(
            "Nothing was done now. If you want it once, all is well: the first one "
            "counts."
        ),
    ),
    "in-flight": ForPeople(
        _("Your first click is still being worked on"),
        _("Please wait a moment. Nothing was done now, and nothing is lost."),
    ),
    "outcome-unknown": ForPeople(
        _("We are looking into what became of this"),
        _(
            "It may or may not have been done, and somebody here finds out. Please "
            "don't send it again; ask us."
        ),
    ),
    "call-refused": ForPeople(
        _("This was refused"),
        _(
            "It was not done, and the same would be refused again. You can change it, "
            "such as to another card, and send it anew."
        ),
    ),
    "answer-unavailable": ForPeople(
        _("This was done, but we can't show you the result again"),
        _("Please don't send it again. Look it up in another place, or ask us."),
    ),
    "answer-expired": ForPeople(
        _("You have sent this form long ago"),
        _(
            "It was received then, and nothing was done now. Please don't send it "
            "again. Look up what came of it in another place, or ask us."
        ),
    ),
    "store-unavailable": ForPeople(_("We can't do this just now"), LATER),
    "operation-unknown": ForPeople(
        _("We know nothing of this"),
        _("It was not done, though it may still be on its way to us."),
    ),
    "unfinished": ForPeople(
        _("This was begun, and isn't finished"),
        _("Nobody is working on it now. Please ask us before you do it anew."),
    ),
    "state-unavailable": ForPeople(_("We can't tell just now"), LATER),
    "ask-invalid": ForPeople(
        _("This can't be asked"), _("Nothing was done. Please ask us.")
    ),
}
"""By the code of the problem."""


def page_before(request: HttpRequest) -> str:
    """Return the address that the form was sent from, if it is of this site."""
    before = request.headers.get("Referer", "")
    if not before.startswith(f"{request.scheme}://"):
        return ""  # an address alone, which browsers don't send
    try:
        host = request.get_host()
    except DisallowedHost:
        return ""
    is_ours = url_has_allowed_host_and_scheme(
        before, allowed_hosts={host}, require_https=request.is_secure()
    )
    return before if is_ours else ""


def is_from_a_form(request: HttpRequest) -> bool:
    """Whether whoever has sent it reads a page: a browser, and no script in one."""
    if request.content_type not in (FORM, MULTIPART):
        return False
    preferred = request.get_preferred_type(["application/problem+json", "text/html"])
    return preferred == "text/html"


def page_of(
    problem: Problem,
    request: HttpRequest,
    reference: str,
    first: dict[str, str | int] | None,
    again: list[tuple[str, str]] | None,
) -> str | None:
    """Return the page of a problem; ``None``: the project has no templates."""
    names = [
        f"django_idempotency/{problem.code}.html",
        "django_idempotency/problem.html",
    ]
    words = FOR_PEOPLE[problem.code]
    context = {
        "code": problem.code,
        "title": words.title,
        "detail": words.detail,
        "can_be_repeated": problem.retry_after_seconds is not None,
        "back": page_before(request),
        "reference": reference,
        "first": first,
        "again": again,
        "has_parts": request.content_type == MULTIPART,
    }
    try:
        try:
            template = select_template(names)
        except (ImproperlyConfigured, TemplateDoesNotExist):
            return None
        page: str = template.render(context, request)
        return page
    except Exception:
        # Such as a query to the database that can't be reached. The refusal must not
        # become a 500, after which a client would try again.
        logger.exception(
            "The project's page for the problem %s can't be rendered; the package's own "
            "was sent.",
            problem.code,
        )
        # A form of it could have no token against forgery.
        return _own_page().render(Context({**context, "again": None}))


@cache
def _own_page() -> Template:
    """The package's page, whatever the project has put in its place."""
    templates = Path(__file__).parents[1] / "templates"
    return Engine(
        dirs=[str(templates)],
        libraries={"i18n": "django.templatetags.i18n"},
    ).get_template("django_idempotency/problem.html")
