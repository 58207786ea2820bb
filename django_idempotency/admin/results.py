"""What a call would have returned, asked for in the shape that it has had before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_idempotency.models import IdempotencyRecord

MOST_LOOKED_AT = 20
"""Newest records, by an index, in which an earlier result is looked for."""
MOST_FIELDS = 8

PREFIX = "result"
AS_JSON = _("What the call would have returned, as JSON.")

Scalar = str | int | float | bool


def earlier_result(record: IdempotencyRecord, step: str) -> Any:
    """Return what this step has returned of late, elsewhere; ``None``: not found."""
    rows: QuerySet[IdempotencyRecord] = QuerySet(
        IdempotencyRecord, using=record._state.db
    )
    newest = rows.order_by("-expires_at").only("method", "effects", "earlier_steps")[
        :MOST_LOOKED_AT
    ]
    for each in newest:
        if each.method != record.method or not isinstance(each.effects, dict):
            continue
        for entry in each.steps:
            is_it = entry["name"] == step and entry["done"]
            if is_it and not entry.get("refused") and not entry.get("unreadable"):
                return entry.get("result")
    return None


def fields_like(example: Any) -> dict[str, forms.Field]:
    """Return the fields that ask for something of this shape; by default for JSON."""
    if isinstance(example, Scalar):
        return {PREFIX: _field(example, str(_("Result")))}
    if (
        isinstance(example, dict)
        and 0 < len(example) <= MOST_FIELDS
        and all(isinstance(each, Scalar) for each in example.values())
    ):
        return {
            f"{PREFIX}-{name}": _field(
                each, gettext("Result: %(name)s") % {"name": name}
            )
            for name, each in example.items()
        }
    area = forms.Textarea(attrs={"rows": 3})
    return {PREFIX: JSONResult(label=_("Result"), help_text=AS_JSON, widget=area)}


def result_in(cleaned: Mapping[str, Any], example: Any) -> Any:
    """Return what was given in these fields."""
    if f"{PREFIX}" in cleaned:
        return cleaned[PREFIX]
    return {name: cleaned[f"{PREFIX}-{name}"] for name in example}


def _field(example: Scalar, label: str) -> forms.Field:
    if isinstance(example, bool):
        return forms.TypedChoiceField(
            label=label,
            choices=[("", "—"), ("yes", _("yes")), ("no", _("no"))],
            coerce=lambda answer: answer == "yes",
        )
    if isinstance(example, str):
        return forms.CharField(label=label, max_length=1000)
    return NumberResult(label=label)


class JSONResult(forms.CharField):
    """JSON that comes back with its own words; nothing is null."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, **options)

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return json.loads(text or "null")
        except (RecursionError, ValueError) as error:
            raise forms.ValidationError(
                _("The result isn't valid JSON: %(error)s"), params={"error": error}
            ) from None


class NumberResult(forms.CharField):
    """A number as JSON has it, so that none is rounded."""

    widget = forms.TextInput(attrs={"inputmode": "decimal"})

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            number = json.loads(text)
        except ValueError:
            number = None
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise forms.ValidationError(_("Give a number, such as 46.82."))
        return number
