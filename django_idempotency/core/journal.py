"""What an operation remembers of its steps, and when it must not go on.

Pure: the steps write it into the record, in the transactions that they need.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from django.core.serializers.json import DjangoJSONEncoder

from .exceptions import StepError

__all__ = ["Memory", "Step", "as_json"]

Kind = Literal["call", "write"]


@dataclass(slots=True)
class Step:
    """One step that was begun."""

    name: str
    kind: Kind
    is_done: bool = False
    result: Any = None


class Memory:
    """The steps of one operation in the order in which they were begun.

    On the first try each step is new. After a crash the view asks for the same steps
    again, in the same order, and finds what they came to.
    """

    def __init__(self, effects: Any = None) -> None:
        stored = effects if isinstance(effects, dict) else {}
        self.steps = [
            Step(each["name"], each["kind"], each["done"], each.get("result"))
            for each in stored.get("steps", [])
        ]
        self.settlements: list[Any] = stored.get("settlements", [])
        self._asked_for = 0
        self._names: set[str] = set()

    @property
    def effects(self) -> dict[str, Any]:
        """The memory as JSON, as the record has it."""
        effects: dict[str, Any] = {}
        if self.steps:
            effects["steps"] = [
                {"name": each.name, "kind": each.kind, "done": each.is_done}
                | ({"result": each.result} if each.is_done else {})
                for each in self.steps
            ]
        if self.settlements:
            effects["settlements"] = self.settlements
        return effects

    @property
    def unfinished(self) -> Step | None:
        """The one call whose outcome is unknown; none can be begun after it."""
        last = self.steps[-1] if self.steps else None
        return None if last is None or last.is_done else last

    def ask_for(self, name: str, kind: Kind) -> Step | None:
        """Return the remembered step; ``None``: it is new, and may be begun.

        Raises:
            StepError: if the steps can't be those of the first try.
        """
        if name in self._names:
            raise StepError(
                f"Two steps of one operation are named {name!r}: the second would be "
                "given the first one's result. Name them apart."
            )
        self._names.add(name)
        if self._asked_for < len(self.steps):
            step = self.steps[self._asked_for]
            if (step.name, step.kind) != (name, kind):
                self._refuse(step, f"asks for {kind} {name!r}")
            self._asked_for += 1
            return step
        if (unknown := self.unfinished) is not None:
            raise StepError(
                f"The {unknown.kind} {unknown.name!r} has begun and its outcome is not "
                f"known: it raised, or {name!r} is a step within it. A retry has to "
                "find out first, so let the error leave the view, or answer with 500 "
                "or above."
            )
        return None

    def begin(self, name: str, kind: Kind) -> Step:
        """Note that the step has begun."""
        step = Step(name, kind)
        self.steps.append(step)
        self._asked_for += 1
        return step

    def forget(self, step: Step) -> None:
        """The step was rolled back."""
        self.steps.remove(step)
        self._names.discard(step.name)
        self._asked_for -= 1

    def settle(self, *, applied: bool, result: Any, note: dict[str, Any]) -> None:
        """A person has found out what became of the unfinished call."""
        step = self.unfinished
        if step is not None and applied:
            step.result, step.is_done = as_json(result, step.name), True
        elif step is not None:
            self.steps.remove(step)
        self.settlements = [*self.settlements, {**note, "applied": applied}]

    def require_all_asked_for(self) -> None:
        """Refuse an answer that leaves remembered steps aside.

        Raises:
            StepError: if a remembered step was not asked for.
        """
        if self._asked_for < len(self.steps):
            self._refuse(self.steps[self._asked_for], "answers without it")

    def _refuse(self, step: Step, what: str) -> NoReturn:
        raise StepError(
            f"An earlier try of this operation went through the {step.kind} "
            f"{step.name!r}, and now the view {what}: it was changed meanwhile, or "
            "decides by something that is not in the request. Let it ask for the same "
            "steps in the same order until such operations are done."
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
            "Return what JSON can hold, such as an id."
        ) from error
    # An escaped NUL, which a database's JSON can't hold, and not an escaped backslash.
    if "\\u0000" in text.replace("\\\\", ""):
        raise TypeError(f"The result of the step {step_name!r} holds a NUL character.")
    return json.loads(text)
