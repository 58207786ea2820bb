"""What an operation remembers of its steps, and what it refuses to mix up."""

import json
import math
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal

import pytest
from django.test import override_settings
from django.utils.functional import lazystr
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.core import at_rest
from django_idempotency.core.journal import (
    LARGEST_RESULT,
    PAGE,
    Entry,
    Journal,
    as_json,
)
from django_idempotency.exceptions import StepError
from tests.support.cases import cases

Kind = Literal["call", "write"]


def do(
    journal: Journal, name: str, kind: Kind = "call", result: Any = None, **how: bool
) -> Any:
    """Go through one step, as a view does; ``done=False``: the call raises."""
    step = journal.ask_for(name, kind)
    if step is None:
        step = journal.begin(name, kind)
        step.result, step.is_done = result, how.get("done", True)
    return step.result


def remembered(*steps: tuple[str, Kind, Any]) -> Journal:
    """The journal of an earlier try, as it comes back from the record."""
    journal = Journal()
    for name, kind, result in steps:
        do(journal, name, kind, result)
    return Journal(journal.effects)


def interrupted() -> Journal:
    """The journal of a try that ended in its second call."""
    journal = remembered(("reserve", "call", 1))
    do(journal, "reserve")
    do(journal, "charge", done=False)
    return Journal(journal.effects)


@pytest.fixture(autouse=True)
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a journal can be compared; a time that isn't known isn't stored."""
    monkeypatch.setattr("django_idempotency.core.journal.now_text", lambda: "")


@pytest.mark.parametrize(
    "finish", [Entry.finish, Entry.finish_call], ids=["write", "call"]
)
def test_step_has_the_times_at_which_it_began_and_ended(
    finish: Callable[[Entry, Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(["10:00:00", "10:00:05"])
    monkeypatch.setattr("django_idempotency.core.journal.now_text", lambda: next(clock))
    journal = Journal()
    step = journal.begin("charge", "call")
    began = Journal(journal.effects).steps
    finish(step, {"id": "ch_1"})

    (ended,) = Journal(journal.effects).steps
    assert [each.get("ended") for each in began] == [None]
    assert (ended["began"], ended["ended"]) == ("10:00:00", "10:00:05")


def test_steps_are_remembered_in_their_order() -> None:
    journal = Journal()
    do(journal, "charge", "call", {"id": "ch_1"})
    do(journal, "order", "write", 7)
    journal.begin("mail", "call")

    assert journal.effects == {
        "steps": [
            {"name": "charge", "kind": "call", "done": True, "result": {"id": "ch_1"}},
            {"name": "order", "kind": "write", "done": True, "result": 7},
            {"name": "mail", "kind": "call", "done": False},
        ]
    }


def test_memory_comes_back_from_the_record_as_it_was() -> None:
    journal = interrupted()

    assert Journal(journal.effects).effects == journal.effects
    assert Journal(journal.effects).entries == journal.entries


@pytest.mark.parametrize("stored", [None, [], "text", 7, {}, {"other": 1}], ids=repr)
def test_record_that_remembers_no_steps_is_a_fresh_start(stored: Any) -> None:
    journal = Journal(stored)

    assert journal.effects == {}
    assert journal.ask_for("charge", "call") is None
    assert journal.unfinished is None
    journal.require_all_asked_for()


def test_new_memory_does_not_share_its_steps() -> None:
    effects = remembered(("charge", "call", 1)).effects
    Journal(effects).begin("order", "write")

    assert len(Journal(effects).entries) == 1


def test_result_that_is_null_is_a_result() -> None:
    step = remembered(("mail", "call", None)).ask_for("mail", "call")

    assert step == Entry("mail", "call", is_done=True, result=None)


def test_retry_goes_on_behind_a_call_that_it_has_finished() -> None:
    journal = interrupted()
    do(journal, "reserve")
    step = journal.ask_for("charge", "call")
    assert step == Entry("charge", "call", is_done=False)
    step.is_done = True

    assert journal.ask_for("order", "write") is None


@pytest.mark.parametrize("done", [True, False])
def test_unfinished_is_the_last_step_that_was_only_begun(done: bool) -> None:
    journal = Journal()
    do(journal, "charge", done=done)

    assert journal.unfinished == (None if done else Entry("charge", "call"))


@pytest.mark.parametrize("second", ["call", "write"])
@pytest.mark.parametrize("first", ["call", "write"])
def test_name_can_be_used_once(first: Kind, second: Kind) -> None:
    """Though the steps are remembered."""
    fresh, later = Journal(), remembered(("charge", first, 1), ("order", "write", 2))
    for journal in (fresh, later):
        do(journal, "charge", first)
        with pytest.raises(StepError, match=r"Two steps .* 'charge'"):
            journal.ask_for("charge", second)


@cases(
    "name, kind",
    {
        "renamed": ("mail", "call"),
        "the next one first": ("order", "write"),
        "another kind": ("charge", "write"),
        "another case": ("Charge", "call"),
    },
)
def test_step_in_place_of_a_remembered_one_is_refused(name: str, kind: Kind) -> None:
    journal = remembered(("charge", "call", 1), ("order", "write", 2))
    before = journal.effects

    with pytest.raises(StepError, match=f"call 'charge'.* asks for {kind} '{name}'"):
        journal.ask_for(name, kind)
    assert journal.effects == before


@pytest.mark.parametrize("kind", ["call", "write"])
def test_no_step_is_begun_behind_a_call_whose_outcome_is_unknown(kind: Kind) -> None:
    journal = Journal()
    do(journal, "charge", done=False)

    with pytest.raises(StepError, match="call 'charge' has begun"):
        journal.ask_for("order", kind)


def test_no_step_is_begun_behind_a_remembered_call_that_failed_again() -> None:
    journal = interrupted()
    do(journal, "reserve")
    journal.ask_for("charge", "call")

    with pytest.raises(StepError, match="has begun"):
        journal.ask_for("order", "write")


def test_answer_may_not_leave_a_remembered_step_aside_and_may_add_others() -> None:
    journal = remembered(("charge", "call", 1), ("order", "write", 2))
    assert do(journal, "charge") == 1
    with pytest.raises(StepError, match=r"write 'order'.* answers without it"):
        journal.require_all_asked_for()

    assert (do(journal, "order", "write"), do(journal, "mail", "call", 3)) == (2, 3)
    journal.require_all_asked_for()


def test_forgotten_step_was_never_there() -> None:
    journal = remembered(("charge", "call", 1))
    do(journal, "charge")
    before = journal.effects
    assert journal.ask_for("order", "write") is None
    journal.forget(journal.begin("order", "write"))

    assert journal.effects == before
    journal.require_all_asked_for()


@pytest.mark.parametrize("name", ["order", "apology"])
def test_step_may_come_in_place_of_a_forgotten_one(name: str) -> None:
    journal = Journal()
    journal.ask_for("order", "write")
    journal.forget(journal.begin("order", "write"))

    assert do(journal, name, "write", 7) == 7
    assert len(journal.entries) == 1


@cases(
    "result, found",
    {
        "nothing": (None, None),
        "bool": (True, True),
        "int": (7, 7),
        "long int": (10**30, 10**30),
        "float": (0.1, 0.1),
        "text": ("ü\n\U0001f600", "ü\n\U0001f600"),
        "text that spells a NUL": ("\\u0000", "\\u0000"),
        "text with backslashes before one": ("\\\\u0000\\", "\\\\u0000\\"),
        "other control characters": ("\x01\x7f", "\x01\x7f"),
        "infinity": ([math.inf, -math.inf], [math.inf, -math.inf]),
        "lone surrogates": ({"\udfff": "\ud800"}, {"\udfff": "\ud800"}),
        "NUL": ({"\0": "a\0b"}, {"\0": "a\0b"}),
        "NUL behind a backslash": ("\\\0", "\\\0"),
        "tuples": ((1, (2,)), [1, [2]]),
        "nested": ({"a": [{"b": None}]}, {"a": [{"b": None}]}),
        "number as a name": ({1: "a"}, {"1": "a"}),
        "Decimal": (Decimal("9.90"), "9.90"),
        "Decimal with an exponent": (Decimal("1E+3"), "1E+3"),
        "UUID": (
            uuid.UUID("6f1c0d0a-9b38-4f4e-8f5a-0d6a1a3b2c4d"),
            "6f1c0d0a-9b38-4f4e-8f5a-0d6a1a3b2c4d",
        ),
        "datetime": (
            datetime(2026, 7, 1, 12, 30, 5, tzinfo=UTC),
            "2026-07-01T12:30:05Z",
        ),
        "date": (date(2026, 7, 1), "2026-07-01"),
        "time": (time(12, 30), "12:30:00"),
        "timedelta": (timedelta(minutes=1), "P0DT00H01M00S"),
        "lazy text": (lazystr("paid"), "paid"),
    },
)
def test_result_is_what_json_makes_of_it(result: Any, found: Any) -> None:
    first = as_json(result, "charge")

    assert first == found
    assert as_json(first, "charge") == first  # on each try


text = st.text(st.characters(codec=None, exclude_categories=()))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.lists(json_values, max_size=5), st.sampled_from([1, PAGE - 3, 2 * PAGE - 1]))
def test_results_come_back_as_the_first_try_had_them(
    results: list[Any], before: int
) -> None:
    """To the last digit and in their order, on whatever page they are."""
    journal = Journal()
    for at in range(before):
        do(journal, f"before {at}")
    first = []
    for at, result in enumerate(results):
        step = journal.begin(f"step {at}", "call")
        first.append(journal.finish_call(step, result))
        journal.is_stored(memory := journal.memory())
    memory = journal.memory(whole=True)
    memory.effects.encode("ascii")
    (memory.earlier_steps or "").encode("ascii")

    retry = Journal(json.loads(memory.effects), memory.earlier_steps)
    found = [entry.result for entry in retry.entries[before:]]
    assert json.dumps(found) == json.dumps(first)
    assert json.dumps(retry.steps) == json.dumps(journal.steps)


def test_step_is_written_with_those_of_its_page_alone() -> None:
    journal, sizes = Journal(), []
    for at in range(20 * PAGE):
        do(journal, f"step {at:05}")
        journal.is_stored(memory := journal.memory())
        sizes.append((len(memory.effects), memory.earlier_steps is not None))

    assert max(size for size, _ in sizes[:PAGE]) == max(size for size, _ in sizes)
    assert [at for at, (_, turns) in enumerate(sizes) if turns] == [
        *range(PAGE, 20 * PAGE, PAGE)
    ]


def test_page_that_was_not_committed_is_written_again() -> None:
    journal = Journal()
    for at in range(PAGE + 1):
        do(journal, f"step {at}", "write")
    assert journal.memory().earlier_steps
    journal.forget(journal.entries[-1])
    assert journal.memory().earlier_steps is None

    do(journal, "another", "write")
    journal.is_stored(memory := journal.memory())
    assert memory.earlier_steps
    assert journal.memory().earlier_steps is None


def test_call_on_an_earlier_page_is_remembered_when_it_is_made_again() -> None:
    """Its first result was too large."""
    journal = Journal()
    journal.finish_call(journal.begin("large", "call"), "x" * LARGEST_RESULT)
    for at in range(PAGE):
        do(journal, f"step {at}")
    memory = journal.memory()

    retry = Journal(json.loads(memory.effects), memory.earlier_steps)
    again = retry.ask_for("large", "call")
    assert again == Entry("large", "call", is_done=False)
    assert retry.memory().earlier_steps is None
    retry.finish_call(again, "small")
    memory = retry.memory()
    assert Journal(json.loads(memory.effects), memory.earlier_steps).steps[0] == {
        "name": "large",
        "kind": "call",
        "done": True,
        "result": "small",
    }


def test_result_is_not_changed_by_what_the_view_does_with_it() -> None:
    result = {"items": [1]}
    found = as_json(result, "charge")
    found["items"].append(2)

    assert result == {"items": [1]}


def endless() -> Any:
    inner: list[Any] = []
    inner.append(inner)
    return inner


def deep() -> Any:
    result: list[Any] = []
    for _ in range(100_000):
        result = [result]
    return result


@cases(
    "result",
    {
        "object": object,
        "bytes": lambda: b"bytes",
        "set": lambda: {1, 2},
        "tuple as a name": lambda: {(1, 2): 3},
        "object inside": lambda: [Entry("a", "call")],
        "endless": endless,
        "nested too deeply": deep,
        "aware time": lambda: time(12, 30, tzinfo=UTC),
    },
)
def test_result_that_cannot_be_repeated_is_refused(result: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match="step 'charge'"):
        as_json(result(), "charge")


def test_result_that_is_refused_is_not_told() -> None:
    """It may be a secret."""
    with pytest.raises(TypeError) as refusal:
        as_json({"card": b"4242"}, "charge")

    assert "4242" not in str(refusal.value)


def test_settled_call_may_be_made_again_or_is_done_with_what_was_found() -> None:
    journal = interrupted()
    journal.settle(applied=False, result=None, note={"by": "ann"})
    do(journal, "reserve")
    assert journal.ask_for("charge", "call") is None

    journal.begin("charge", "call")
    journal = Journal(journal.effects)
    journal.settle(applied=True, result=Decimal("9.90"), note={"by": "bob"})
    assert journal.unfinished is None
    assert journal.entries[-1] == Entry("charge", "call", is_done=True, result="9.90")
    assert journal.effects["settlements"] == [
        {"by": "ann", "applied": False},
        {"by": "bob", "applied": True},
    ]


def test_call_that_others_have_followed_was_applied() -> None:
    journal = Journal()
    journal.finish_call(journal.begin("large", "call"), "x" * LARGEST_RESULT)
    do(journal, "order", "write", 7)
    found = Journal(journal.effects)
    with pytest.raises(ValueError, match="was applied"):
        found.settle(applied=False, result=None, note={})

    found.settle(applied=True, result="ch_1", note={})
    assert [step["result"] for step in found.steps] == ["ch_1", 7]


def test_settling_what_is_not_unfinished_leaves_the_steps() -> None:
    journal = remembered(("charge", "call", 1))
    before = journal.effects["steps"]
    journal.settle(applied=False, result=None, note={})

    assert journal.effects["steps"] == before


class Scrambling:
    """A codec that doesn't notice that its key is another one."""

    def encode(self, data: bytes, context: str) -> bytes:
        return data + context.encode()

    def decode(self, data: bytes, context: str) -> bytes:
        return data


@pytest.mark.parametrize("coded", [None, "no base64!", ""])
def test_result_that_was_decoded_to_something_else_is_unreadable(
    coded: str | None,
) -> None:
    path, row_id = f"{__name__}.Scrambling", uuid.uuid4()
    with override_settings(IDEMPOTENCY_BODY_CODEC=path):
        journal = Journal(row_id=row_id)
        journal.ask_for("charge", "call")
        journal.finish_call(journal.begin("charge", "call"), {"id": 7})
        effects = journal.effects
        if coded is not None:
            effects["steps"][0]["coded"] = coded
        found = Journal(effects, None, row_id)

    assert found.fault is not None
    assert [step.get("unreadable") for step in found.steps] == [True]
    assert found.effects == effects  # for whoever has the key


def test_longest_is_about_what_a_codec_makes_of_it() -> None:
    assert at_rest.longest(2**20) == 2**20
    with override_settings(IDEMPOTENCY_BODY_CODEC=f"{__name__}.Scrambling"):
        assert 2**20 < at_rest.longest(2**20) < 2**20 + 2**12
