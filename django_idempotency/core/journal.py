"""What an operation remembers of its steps, and when a step must be refused.

Pure: the steps write the journal into the record, in the transactions they need.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from django.core.serializers.json import DjangoJSONEncoder

from django_idempotency.exceptions import CallRefused, StepError, Undecodable

from . import at_rest
from .history import now_text

Kind = Literal["call", "write"]


PAGE = 50
"""How many of an operation's last steps are written with each step, at most."""

LARGEST_RESULT = 2**20
"""Characters of JSON. A call's result that is larger is not remembered."""


@dataclass(slots=True)
class Entry:
    """One step that was begun."""

    name: str
    kind: Kind
    is_done: bool = False
    result: Any = None
    is_kept: bool = True
    """Whether a retry finds the result; else it finds that the step was begun."""
    began_at: str = ""
    ended_at: str = ""
    """When, for people; by the clock of the server that ran it."""
    is_refused: bool = False
    """Whether the result is what the other side has refused the call with."""
    coded: str | None = None
    """The result as it is stored, if it is encoded: see Note [Plain and encoded at rest]."""
    fault: Undecodable | None = None
    """Why that can't be read."""

    @property
    def outcome(self) -> Any:
        """The result of a step that is done.

        Raises:
            CallRefused: the other side has refused.
        """
        if self.is_refused:
            raise CallRefused(self.name, self.result["error"], self.result["message"])
        return self.result

    def finish(self, result: Any) -> Any:
        """Note the result; return it as a retry would find it."""
        self.result, self.is_done = as_json(result, self.name), True
        self.coded = self.fault = None
        self.ended_at = now_text()
        return self.result

    def finish_call(self, result: Any) -> None:
        """Note what a call returned, which was made, whatever the other side says.

        What is too large to be remembered is good for this attempt alone: a retry does
        what it does about a call whose outcome is unknown.
        """
        try:
            text = _encoded(result, self.name)
            self.is_kept = len(text) <= LARGEST_RESULT
            self.result = json.loads(text) if self.is_kept else result
        except RecursionError:
            self.result, self.is_kept = result, False
        self.coded = self.fault = None
        self.is_done, self.ended_at = True, now_text()

    @property
    def shown(self) -> dict[str, Any]:
        """For people, who are told where the result can't be read."""
        result = {"unreadable": True} if self.fault else {"result": self.result}
        return self._with(result)

    def stored(self, row_id: uuid.UUID | None) -> dict[str, Any]:
        if self.coded is None and self.is_done and self.is_kept and row_id is not None:
            context = at_rest.of_step(row_id, self.name)
            self.coded = at_rest.encoded_text(json.dumps(self.result), context)
        if self.coded is None:
            return self._with({"result": self.result})
        return self._with({"coded": self.coded})

    def read(self, row_id: uuid.UUID | None) -> None:
        """Decode the result, if it is encoded."""
        if self.coded is None or row_id is None:
            return
        try:
            text = at_rest.decoded_text(self.coded, at_rest.of_step(row_id, self.name))
            self.result = json.loads(text)
        except Undecodable as fault:
            self.fault = fault
        except ValueError as error:
            self.fault = Undecodable(f"It was decoded to what isn't JSON: {error}")

    def _with(self, result: dict[str, Any]) -> dict[str, Any]:
        is_done = self.is_done and self.is_kept
        entry: dict[str, Any] = {"name": self.name, "kind": self.kind, "done": is_done}
        if is_done:
            entry |= result
        if self.began_at:
            entry["began"] = self.began_at
        if self.ended_at:
            entry["ended"] = self.ended_at
        return entry | ({"refused": True} if self.is_refused else {})


@dataclass(frozen=True, slots=True)
class Memory:
    """A journal as its record has it, in two columns.

    Note [The pages of a journal]
    All steps are written anew with each step, so that a step behind a thousand others
    would cost a thousand times as much. So a journal has pages, and only the last one
    is written with each step. Those before it are in a column of their own, which
    PostgreSQL keeps beside the row and leaves alone as long as nobody writes to it.

    Both are JSON as text, since a database's own JSON changes numbers, the order of
    names and some characters.
    """

    effects: str
    earlier_steps: str | None
    """One page a line; ``None``: there is only one, or they are stored as they are."""


class Journal:
    """The steps of one operation in the order in which they were begun.

    On the first attempt each step is new. After a crash the view asks for the same steps
    again, in the same order, and gets their results.
    """

    def __init__(
        self,
        effects: Any = None,
        earlier_steps: str | None = None,
        row_id: uuid.UUID | None = None,
    ) -> None:
        stored = effects if isinstance(effects, dict) else {}
        self._row_id = row_id
        """Whose results these are; ``None``: they are never stored."""
        self._pages = (earlier_steps or "").splitlines()
        """The earlier pages as they are stored."""
        steps = [step for page in self._pages for step in json.loads(page)]
        self.entries = [
            Entry(
                each["name"],
                each["kind"],
                each["done"],
                each.get("result"),
                began_at=each.get("began", ""),
                ended_at=each.get("ended", ""),
                is_refused=each.get("refused", False),
                coded=each.get("coded"),
            )
            for each in [*steps, *stored.get("steps", [])]
        ]
        for entry in self.entries:
            entry.read(row_id)
        self.settlements: list[Any] = stored.get("settlements", [])
        self._asked_for = 0
        self._names: set[str] = set()

    @property
    def steps(self) -> list[dict[str, Any]]:
        """All steps, as JSON."""
        return [each.shown for each in self.entries]

    @property
    def effects(self) -> dict[str, Any]:
        """The last page and the settlements, as JSON.

        The steps come first: a statement sees by that whether there are any.
        """
        effects: dict[str, Any] = {}
        if self.entries:
            last_page = self.entries[PAGE * self._earlier_pages :]
            effects["steps"] = self._stored(last_page)
        if self.settlements:
            effects["settlements"] = self.settlements
        return effects

    def _stored(self, entries: list[Entry]) -> list[dict[str, Any]]:
        return [each.stored(self._row_id) for each in entries]

    @property
    def fault(self) -> Undecodable | None:
        """Why a result can't be read that a retry would go on after."""
        return next((each.fault for each in self.entries if each.fault), None)

    @property
    def _earlier_pages(self) -> int:
        return max(0, len(self.entries) - 1) // PAGE

    def memory(self, *, whole: bool = False) -> Memory:
        """Return what is to be stored: `whole`, or what has changed."""
        count = self._earlier_pages
        pages = self._pages[:count]
        for number in range(len(pages), count):
            page = self.entries[PAGE * number : PAGE * (number + 1)]
            pages.append(json.dumps(self._stored(page)))
        is_changed = pages != self._pages
        return Memory(
            json.dumps(self.effects),
            "\n".join(pages) if whole or is_changed else None,
        )

    def is_stored(self, memory: Memory) -> None:
        """This was committed."""
        if memory.earlier_steps is not None:
            self._pages = memory.earlier_steps.splitlines()

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
        entry = Entry(name, kind, began_at=now_text())
        self.entries.append(entry)
        self._asked_for += 1
        return entry

    def finish_call(self, entry: Entry, result: Any) -> Any:
        """Note what the call that was asked for last returned; return it as well."""
        entry.finish_call(result)
        # It may be on an earlier page, if it was made again.
        del self._pages[(self._asked_for - 1) // PAGE :]
        return entry.result

    def finish_unfinished(self, result: Any) -> None:
        """Note what the other side says that the unfinished call has returned."""
        if (entry := self.unfinished) is not None:
            entry.finish(result)
            self._pages = []

    def forget(self, entry: Entry) -> None:
        """The step, which is the last one, was rolled back."""
        self.entries.pop()
        self._names.discard(entry.name)
        self._asked_for -= 1

    def settle(self, *, applied: bool, result: Any, note: dict[str, Any]) -> None:
        """A person has found out what became of the unfinished call.

        Raises:
            ValueError: steps were done after it, so it was applied.
        """
        begun = (entry for entry in self.entries if not entry.is_done)
        entry = next(begun, None)
        if entry is not None and applied:
            entry.finish(result)
        elif entry is not None:
            if entry is not self.entries[-1]:
                raise ValueError(
                    f"The call {entry.name!r} was applied: other steps were done after "
                    "it. Only its result was too large to be remembered."
                )
            self.entries.pop()
        self._pages = []
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
        return json.loads(_encoded(result, step_name))
    except RecursionError as error:
        raise _refusal(step_name, error) from error


def _encoded(result: Any, step_name: str) -> str:
    """Return ASCII, in which any text can be written, also what no database stores.

    Raises:
        TypeError: if JSON can't represent it.
        RecursionError: if it is too deep.
    """
    try:
        return json.dumps(result, cls=DjangoJSONEncoder)
    except (TypeError, ValueError) as error:
        raise _refusal(step_name, error) from error


def _refusal(step_name: str, error: Exception) -> TypeError:
    return TypeError(
        f"The result of the step {step_name!r} can't be remembered: {error}. "
        "Return something that JSON can represent, such as an id."
    )
