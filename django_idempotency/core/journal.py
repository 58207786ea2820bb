"""What an operation remembers of its steps, and when a step must be refused.

Pure: the steps write the journal into the record, in the transactions they need.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from django.core.serializers.json import DjangoJSONEncoder

from django_idempotency.exceptions import StepError

Kind = Literal["call", "write"]


@dataclass(slots=True)
class Entry:
    """One step that was begun."""

    name: str
    kind: Kind
    is_done: bool = False
    result: Any = None

    def finish(self, result: Any) -> Any:
        """Note the result; return it as a retry would find it."""
        self.result, self.is_done = as_json(result, self.name), True
        return self.result


class Journal:
    """The steps of one operation in the order in which they were begun.

    On the first attempt each step is new. After a crash the view asks for the same steps
    again, in the same order, and gets their results.
    """

    def __init__(self, effects: Any = None) -> None:
        stored = effects if isinstance(effects, dict) else {}
        self.entries = [
            Entry(each["name"], each["kind"], each["done"], each.get("result"))
            for each in stored.get("steps", [])
        ]
        self.settlements: list[Any] = stored.get("settlements", [])
        self._asked_for = 0
        self._names: set[str] = set()

    @property
    def effects(self) -> dict[str, Any]:
        """The journal as JSON, as the record has it."""
        effects: dict[str, Any] = {}
        if self.entries:
            effects["steps"] = [
                {"name": each.name, "kind": each.kind, "done": each.is_done}
                | ({"result": each.result} if each.is_done else {})
                for each in self.entries
            ]
        if self.settlements:
            effects["settlements"] = self.settlements
        return effects

    @property
    def unfinished(self) -> Entry | None:
        """The one step that began and isn't done; no other can begin after it."""
        last = self.entries[-1] if self.entries else None
        return None if last is None or last.is_done else last

    def ask_for(self, name: str, kind: Kind) -> Entry | None:
        """Return the remembered step; ``None``: the step is new and may begin.

        Raises:
            StepError: if the steps can't be those of the first attempt.
        """
        if name in self._names:
            raise StepError(
                f"Two steps of one operation are named {name!r}: the second would be "
                "given the first one's result. Give them different names."
            )
        self._names.add(name)
        if self._asked_for < len(self.entries):
            entry = self.entries[self._asked_for]
            if (entry.name, entry.kind) != (name, kind):
                self._refuse(entry, f"asks for {kind} {name!r}")
            self._asked_for += 1
            return entry
        if (unknown := self.unfinished) is not None:
            raise StepError(
                f"The {unknown.kind} {unknown.name!r} has begun and its outcome is not "
                f"known: it raised, or {name!r} is a step within it. A retry has to "
                "find out first, so let the error leave the view, or answer with 500 "
                "or above."
            )
        return None

    def begin(self, name: str, kind: Kind) -> Entry:
        """Note that the step has begun."""
        entry = Entry(name, kind)
        self.entries.append(entry)
        self._asked_for += 1
        return entry

    def forget(self, entry: Entry) -> None:
        """The step was rolled back."""
        self.entries.remove(entry)
        self._names.discard(entry.name)
        self._asked_for -= 1

    def settle(self, *, applied: bool, result: Any, note: dict[str, Any]) -> None:
        """A person has found out what became of the unfinished call."""
        entry = self.unfinished
        if entry is not None and applied:
            entry.finish(result)
        elif entry is not None:
            self.entries.remove(entry)
        self.settlements = [*self.settlements, {**note, "applied": applied}]

    def require_all_asked_for(self) -> None:
        """Refuse an answer that skips remembered steps.

        Raises:
            StepError: if a remembered step was not asked for.
        """
        if self._asked_for < len(self.entries):
            self._refuse(self.entries[self._asked_for], "answers without it")

    def _refuse(self, entry: Entry, what: str) -> NoReturn:
        raise StepError(
            f"An earlier attempt at this operation went through the {entry.kind} "
            f"{entry.name!r}, and now the view {what}: the view was changed meanwhile, "
            "or depends on something that is not in the request. It has to ask for the "
            "same steps in the same order until such operations are done."
        )


def as_json(result: Any, step_name: str) -> Any:
    """Return a step's result as a retry will find it.

    Raises:
        TypeError: if it can't be remembered.
    """
    try:
        text = json.dumps(
            result, cls=DjangoJSONEncoder, allow_nan=False, ensure_ascii=False
        )
        text.encode()
    except (RecursionError, TypeError, ValueError) as error:
        raise TypeError(
            f"The result of the step {step_name!r} can't be remembered: {error}. "
            "Return something that JSON can represent, such as an id."
        ) from error
    # An escaped NUL, which a database's JSON can't hold, and not an escaped backslash.
    if "\\u0000" in text.replace("\\\\", ""):
        raise TypeError(
            f"The result of the step {step_name!r} contains a NUL character."
        )
    return json.loads(text)
