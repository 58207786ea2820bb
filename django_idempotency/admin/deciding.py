"""A decision about one row: a button on its page, and a page that asks once more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_idempotency.http.boundary import enter

from .acts import Act, ActingAdmin, FormAgain, non_atomic
from .pages import Choice
from .results import AS_JSON, fields_like, result_in

TEMPLATE = "django_idempotency/decide.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the page that asks says of one row."""

    title: str
    facts: list[tuple[str, str]]
    look_for: str = ""
    effect: str
    """What will happen."""
    is_dangerous: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One act, as it is offered on a row's own page."""

    name: str
    """In the address."""
    act: Act
    permission: str
    label: Callable[[Any], str]
    """The words on the button."""
    question: Callable[[Any, str], Question]
    """`(row, customer)`"""
    example: Callable[[Any], Any] = field(default=lambda row: None)
    """A result of the shape that is to be given."""
    is_possible: Callable[[Any], bool] = field(default=lambda row: True)
    """Whether it can be done to a row that is in one of the act's states."""
    is_aside: bool = False
    """Whether nobody waits for it: offered below the story, as deleting is."""


class DecisionForm(forms.Form):
    """The reason, and the result if there is one to give."""

    reason = forms.CharField(
        label=_("Reason"), max_length=1000, widget=forms.Textarea(attrs={"rows": 2})
    )

    def __init__(self, decision: Decision, example: Any, data: Any = None) -> None:
        super().__init__(data, label_suffix="")
        self._example = example
        self._has_result = decision.act.result_help is not None
        self.fields["reason"].help_text = str(decision.act.reason_help)
        if self._has_result:
            reason = self.fields.pop("reason")
            self.fields.update(fields_like(example))
            self.fields["reason"] = reason

    @property
    def given(self) -> dict[str, Any]:
        """What the act gets."""
        cleaned = self.cleaned_data
        result = result_in(cleaned, self._example) if self._has_result else None
        return {"reason": cleaned["reason"], "result": result}


class DecidingAdmin(ActingAdmin):
    """Offers decisions on the page of a row."""

    decisions: tuple[Decision, ...] = ()

    def get_urls(self) -> list[URLPattern]:
        meta = self.opts
        view = self.admin_site.admin_view(self.decide_view)
        name = f"{meta.app_label}_{meta.model_name}_decide"
        ours = path("<path:object_id>/decide/<slug:name>/", view, name=name)
        return [ours, *super().get_urls()]

    def decisions_about(self, request: HttpRequest, row: Any) -> list[Decision]:
        """Return those that can be made now, by this person."""
        return [
            each
            for each in self.decisions
            if self.is_possible(each, row) and self._may_make(request, each)
        ]

    def choices(
        self, request: HttpRequest, row: Any, *, aside: bool = False
    ) -> list[Choice]:
        """Return the buttons on the row's page, or what it offers aside."""
        offered = [
            each
            for each in self.decisions_about(request, row)
            if each.is_aside is aside
        ]
        return [
            Choice(
                label=each.label(row), url=self.url_to_decide(row, each), is_first=not n
            )
            for n, each in enumerate(offered)
        ]

    def is_possible(self, decision: Decision, row: Any) -> bool:
        return row.state in decision.act.states and decision.is_possible(row)

    def customer(self, request: HttpRequest, row: Any) -> str:
        """Return whose row it is, for the page that asks."""
        return ""

    def url_to_decide(self, row: Any, decision: Decision) -> str:
        meta = self.opts
        name = f"{self.admin_site.name}:{meta.app_label}_{meta.model_name}_decide"
        return reverse(name, args=[row.pk, decision.name])

    def decide_view(
        self, request: HttpRequest, object_id: str, name: str
    ) -> HttpResponse:
        call = partial(self._decide, request, object_id, name)
        return enter(request, call, partial(self._act_once, request, call), non_atomic)

    # The admin copies the attribute to the function in the URLconf, where Django looks.
    decide_view._non_atomic_requests = non_atomic  # type: ignore[attr-defined]

    def _may_make(self, request: HttpRequest, decision: Decision) -> bool:
        may: bool = getattr(self, f"has_{decision.permission}_permission")(request)
        return may and self.has_view_permission(request)

    def _decide(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        decision = next((each for each in self.decisions if each.name == name), None)
        if decision is None:
            raise Http404
        if not self._may_make(request, decision):
            raise PermissionDenied
        row = self.whole_row(request, object_id)
        if row is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined,no-any-return]
        if request.method == "POST":
            return self._decided(request, row, decision)
        if not self.is_possible(decision, row):
            return self._not_possible(request, row)
        return self._asked(request, row, decision, self._form(request, row, decision))

    def _not_possible(self, request: HttpRequest, row: Any) -> HttpResponse:
        told = gettext("That is not possible: it is %(state)s now.")
        told %= {"state": row.get_state_display()}
        self.message_user(request, told, messages.WARNING)
        return HttpResponseRedirect(self.url_of("change", row))

    def _form(
        self, request: HttpRequest, row: Any, decision: Decision, *data: Any
    ) -> DecisionForm:
        # A result of another shape than before can be given as well.
        as_json = request.GET.get("as") == "json"
        example = None if as_json else decision.example(row)
        return DecisionForm(decision, example, *data)

    def _asked(
        self,
        request: HttpRequest,
        row: Any,
        decision: Decision,
        form: DecisionForm,
        seen: str = "",
    ) -> TemplateResponse:
        question = decision.question(row, self.customer(request, row))
        context = {
            **self.page_context(request, row, question.title),
            "request": request,
            "form": form,
            "question": question,
            "row": row,
            "row_url": self.url_of("change", row),
            "row_title": str(row),
            "seen": seen or row.seen,
            "label": decision.label(row).rstrip("…"),
            "has_shape": decision.act.result_help is not None
            and all(each.help_text != AS_JSON for each in form.fields.values()),
        }
        kind = FormAgain if form.is_bound else TemplateResponse
        return kind(request, TEMPLATE, context)

    def _decided(
        self, request: HttpRequest, row: Any, decision: Decision
    ) -> HttpResponse:
        back = HttpResponseRedirect(self.url_of("change", row))
        seen = request.POST.get("seen", "")
        if not seen or seen != row.seen:
            self.message_user(request, self.changed(row, seen), messages.ERROR)
            return back
        # What was forgotten looks as before, by its state and attempts.
        if not self.is_possible(decision, row):
            return self._not_possible(request, row)
        form = self._form(request, row, decision, request.POST)
        if not form.is_valid():
            return self._asked(request, row, decision, form, seen)
        perform = partial(
            decision.act.perform, by=request.user.get_username(), **form.given
        )
        if decision.act.after_commit:
            self._after_commit(
                partial(self._act, request, row, seen, decision.act, perform)
            )
            return back
        try:
            told = self._done(request, row, decision.act, perform, form.given["reason"])
        except (TypeError, ValueError) as error:
            form.add_error(None, str(error))
            return self._asked(request, row, decision, form, seen)
        self.message_user(request, told)
        return back
