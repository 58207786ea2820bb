"""What people do to rows from the admin's lists: asked first, done once, and only to a
row that still is as they have seen it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.validators import ProhibitNullCharactersValidator
from django.db import router, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_idempotency.conf import conf
from django_idempotency.core.operations import StoredAnswer
from django_idempotency.core.seen import changed_since, described
from django_idempotency.http.answers import replay_of
from django_idempotency.http.boundary import NonAtomicRequests, enter
from django_idempotency.http.outcomes import Answer
from django_idempotency.http.protection import protect, rendered
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.store.records import record_alias

from .deleting import GuardedAdmin

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise as StrPromise

TEMPLATE = "django_idempotency/act.html"
CONFIRMED = "confirmed"
MOST_AT_ONCE = 100
"""Each row is two fields of the form, and Django takes a thousand."""

POLICY = IdempotencyPolicy(required=False)

non_atomic = NonAtomicRequests(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One thing that people may do to rows."""

    title: StrPromise
    explanation: StrPromise
    """What it will do."""
    states: frozenset[str]
    """In which it can be done to a row."""
    reason_help: StrPromise
    result_help: StrPromise | None = None
    """``None``: there is no result to give."""
    after_commit: bool = False
    """Whether it makes transactions of its own."""
    perform: Callable[..., str]
    """``(row, *, by, reason, result)``: do it, and return what came of it.

    A ValueError says why nothing was done.
    """
    done: StrPromise
    """What was done, for the admin's own log."""


class FormAgain(TemplateResponse):
    """A form that comes back with errors, so that its key isn't used up."""


class ActingAdmin(GuardedAdmin):
    """Asks before an act, on a page that shows each row and carries a key."""

    deferred: tuple[str, ...] = ()
    """What an act doesn't need of a row: each can have megabytes."""

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        call = partial(super().changelist_view, request, extra_context)
        return enter(request, call, partial(self._act_once, request, call), non_atomic)

    # The admin copies the attribute to the function in the URLconf, where Django looks.
    changelist_view._non_atomic_requests = non_atomic  # type: ignore[attr-defined]

    def confirmed_or_asked(
        self,
        request: HttpRequest,
        rows: QuerySet[Any],
        act: Act,
    ) -> TemplateResponse | None:
        """Show the page that asks, or do what was confirmed there."""
        chosen = list(rows.defer(None).defer(*self.deferred)[:MOST_AT_ONCE])
        if CONFIRMED not in request.POST:
            return self._page(request, chosen, act)
        perform = partial(_performed, request, act)
        for row in chosen:
            seen = request.POST.get(f"seen-{row.pk}", "")
            do = partial(self._act, request, row, seen, act, perform)
            if act.after_commit:
                self._after_commit(do)
            else:
                do()
        return None

    def _after_commit(self, do: Callable[[], None]) -> None:
        """After that of the form's record, and that of the rows if they are elsewhere."""
        after_rows = partial(
            transaction.on_commit, do, using=router.db_for_write(self.model)
        )
        transaction.on_commit(after_rows, using=record_alias())

    def _page(
        self, request: HttpRequest, chosen: list[Any], act: Act
    ) -> TemplateResponse | None:
        able = [row for row in chosen if row.state in act.states]
        for row in chosen:
            if row not in able:
                told = gettext("%(row)s: not possible, %(seen)s") % {
                    "row": row.pk,
                    "seen": described(row.get_state_display(), row.attempts),
                }
                self.message_user(request, told, messages.WARNING)
        if not able:
            return None
        context = {
            **self.page_context(request, able[0], str(act.title)),
            "request": request,
            "act": act,
            "action": request.POST["action"],
            "confirmed": CONFIRMED,
            "rows": [
                (row, described(row.get_state_display(), row.attempts)) for row in able
            ],
        }
        return TemplateResponse(request, TEMPLATE, context)

    def _act(
        self,
        request: HttpRequest,
        row: Any,
        seen: str,
        act: Act,
        perform: Callable[[Any], str],
    ) -> None:
        try:
            if seen != row.seen:
                raise ValueError(self.changed(row, seen))
            told = self._done(
                request, row, act, perform, request.POST.get("reason", "")
            )
        except (TypeError, ValueError, self.model.DoesNotExist) as error:
            self.message_user(request, f"{row.pk}: {error}", messages.ERROR)
        else:
            self.message_user(request, f"{row.pk}: {told}")

    def _done(
        self,
        request: HttpRequest,
        row: Any,
        act: Act,
        perform: Callable[[Any], str],
        reason: str,
    ) -> str:
        """Do it, and write it down where it outlives the row."""
        told = perform(row)
        entry = f"{act.done} ({row}): {reason}"
        self.log_change(request, row, entry)
        return told

    def changed(self, row: Any, seen: str) -> str:
        """Tell the second of two people, or the second click of one."""
        state, _colon, rest = seen.partition(":")
        attempts = rest.partition(":")[0]
        states = dict(self.model._meta.get_field("state").flatchoices)
        then = described(
            str(states.get(state, state)), int(attempts) if attempts.isdecimal() else 0
        )
        now = described(row.get_state_display(), row.attempts)
        return changed_since(then, now, row.last_act)

    def _act_once(
        self, request: HttpRequest, call: Callable[[], Any]
    ) -> HttpResponse | Any:
        view = _Acting(self, request, call)
        response = protect(request, POLICY, view)
        if not view.has_run and conf.IDEMPOTENCY_REPLAYED_HEADER in response.headers:
            text = _("The form was sent more than once, and acted on once.")
            self.message_user(request, text, messages.WARNING)
        return response


def _performed(request: HttpRequest, act: Act, row: Any) -> str:
    reason = request.POST.get("reason", "")
    try:
        ProhibitNullCharactersValidator()(reason)  # as a form's field has it
    except ValidationError as error:
        raise ValueError(*error.messages) from None
    return act.perform(
        row,
        by=request.user.get_username(),
        reason=reason,
        result=_result_in(request) if act.result_help else None,
    )


def _result_in(request: HttpRequest) -> Any:
    try:
        return json.loads(request.POST.get("result") or "null")
    except (RecursionError, ValueError) as error:
        told = gettext("The result isn't valid JSON: %(error)s")
        raise ValueError(told % {"error": error}) from None


@dataclass(slots=True)
class _Acting:
    """One post to a list or about a row, as a `ProtectedView`."""

    admin: ActingAdmin
    request: HttpRequest
    call: Callable[[], Any]
    has_run: bool = field(default=False, init=False)
    has_object = False
    checks_at_end = False

    def run(self) -> Answer:
        self.has_run = True
        response = self.call()
        is_again = isinstance(response, FormAgain)
        return Answer(rendered(response, self.call), asks_again=is_again)

    def replay_of(self, answer: StoredAnswer) -> HttpResponse:
        return replay_of(answer, self.request)

    def check_replay(self, has_object: bool) -> None:
        if not self.admin.has_view_permission(self.request):
            raise PermissionDenied
