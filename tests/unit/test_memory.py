"""What an operation remembers of its steps, and what it refuses to mix up."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal

import pytest
from django.utils.functional import lazystr

from django_idempotency.exceptions import StepError
from django_idempotency.memory import Memory, Step, as_json

Kind = Literal["call", "write"]


def do(
    memory: Memory, name: str, kind: Kind = "call", result: Any = None, **how: bool
) -> Any:
    """Go through one step, as a view does; ``done=False``: the call raises."""
    step = memory.ask_for(name, kind)
    if step is None:
        step = memory.begin(name, kind)
        step.result, step.is_done = result, how.get("done", True)
    return step.result


def remembered(*steps: tuple[str, Kind, Any]) -> Memory:
    """The memory of an earlier try, as it comes back from the record."""
    memory = Memory()
    for name, kind, result in steps:
        do(memory, name, kind, result)
    return Memory(memory.effects)


def interrupted() -> Memory:
    """The memory of a try that ended in its second call."""
    memory = remembered(("reserve", "call", 1))
    do(memory, "reserve")
    do(memory, "charge", done=False)
    return Memory(memory.effects)


# What is remembered


def test_new_operation_remembers_nothing() -> None:
    assert (Memory().effects, Memory({}).effects) == ({}, {})


def test_finished_steps_are_remembered_in_their_order() -> None:
    memory = Memory()
    do(memory, "charge", "call", {"id": "ch_1"})
    do(memory, "order", "write", 7)

    assert memory.effects == {
        "steps": [
            {"name": "charge", "kind": "call", "done": True, "result": {"id": "ch_1"}},
            {"name": "order", "kind": "write", "done": True, "result": 7},
        ]
    }


def test_step_that_was_only_begun_is_remembered_without_a_result() -> None:
    memory = Memory()
    memory.begin("charge", "call")

    assert memory.effects == {
        "steps": [{"name": "charge", "kind": "call", "done": False}]
    }


def test_memory_comes_back_from_the_record_as_it_was() -> None:
    memory = interrupted()

    assert Memory(memory.effects).effects == memory.effects
    assert Memory(memory.effects).steps == memory.steps


@pytest.mark.parametrize("stored", [None, [], "text", 7, {}, {"other": 1}], ids=repr)
def test_record_that_remembers_no_steps_is_a_fresh_start(stored: Any) -> None:
    memory = Memory(stored)

    assert memory.ask_for("charge", "call") is None


def test_new_memory_does_not_share_its_steps() -> None:
    effects = remembered(("charge", "call", 1)).effects
    Memory(effects).begin("order", "write")

    assert len(Memory(effects).steps) == 1


# Asking again


def test_step_that_was_never_begun_is_new() -> None:
    assert Memory().ask_for("charge", "call") is None


def test_finished_steps_are_found_in_their_order() -> None:
    memory = remembered(("charge", "call", "ch_1"), ("order", "write", 7))

    assert [do(memory, "charge"), do(memory, "order", "write")] == ["ch_1", 7]


def test_result_that_is_null_is_a_result() -> None:
    step = remembered(("mail", "call", None)).ask_for("mail", "call")

    assert step == Step("mail", "call", is_done=True, result=None)


def test_retry_goes_on_behind_what_is_remembered() -> None:
    memory = remembered(("charge", "call", "ch_1"))
    do(memory, "charge")

    assert memory.ask_for("order", "write") is None


def test_unfinished_call_is_found_as_such() -> None:
    memory = interrupted()
    do(memory, "reserve")

    assert memory.ask_for("charge", "call") == Step("charge", "call", is_done=False)


def test_retry_goes_on_behind_a_call_that_it_has_finished() -> None:
    memory = interrupted()
    do(memory, "reserve")
    step = memory.ask_for("charge", "call")
    assert step is not None
    step.is_done = True

    assert memory.ask_for("order", "write") is None


def test_steps_behind_the_memory_of_an_earlier_try_are_added_to_it() -> None:
    memory = remembered(("charge", "call", "ch_1"))
    do(memory, "charge")
    do(memory, "order", "write", 7)

    assert [each["name"] for each in memory.effects["steps"]] == ["charge", "order"]


@pytest.mark.parametrize("done", [True, False])
def test_unfinished_is_the_last_step_that_was_only_begun(done: bool) -> None:
    memory = Memory()
    do(memory, "charge", done=done)

    assert memory.unfinished == (None if done else Step("charge", "call"))


def test_nothing_is_unfinished_before_the_first_step() -> None:
    assert Memory().unfinished is None


# What is refused


@pytest.mark.parametrize("second", ["call", "write"])
@pytest.mark.parametrize("first", ["call", "write"])
def test_name_can_be_used_once(first: Kind, second: Kind) -> None:
    memory = Memory()
    do(memory, "charge", first)

    with pytest.raises(StepError, match=r"Two steps .* 'charge'"):
        memory.ask_for("charge", second)


def test_name_can_be_used_once_when_it_is_remembered() -> None:
    memory = remembered(("charge", "call", 1), ("order", "write", 2))
    do(memory, "charge")

    with pytest.raises(StepError, match="Two steps"):
        memory.ask_for("charge", "call")


CHANGES = [
    pytest.param("mail", "call", id="renamed"),
    pytest.param("order", "write", id="the next one first"),
    pytest.param("charge", "write", id="another kind"),
    pytest.param("Charge", "call", id="another case"),
]


@pytest.mark.parametrize(("name", "kind"), CHANGES)
def test_step_in_place_of_a_remembered_one_is_refused(name: str, kind: Kind) -> None:
    memory = remembered(("charge", "call", 1), ("order", "write", 2))

    with pytest.raises(StepError, match=f"call 'charge'.* asks for {kind} '{name}'"):
        memory.ask_for(name, kind)


@pytest.mark.parametrize(("name", "kind"), CHANGES)
def test_refused_step_changes_nothing_of_the_memory(name: str, kind: Kind) -> None:
    memory = remembered(("charge", "call", 1), ("order", "write", 2))
    before = memory.effects
    with pytest.raises(StepError):
        memory.ask_for(name, kind)

    assert memory.effects == before


@pytest.mark.parametrize("kind", ["call", "write"])
def test_no_step_is_begun_behind_a_call_whose_outcome_is_unknown(kind: Kind) -> None:
    memory = Memory()
    do(memory, "charge", done=False)

    with pytest.raises(StepError, match="call 'charge' has begun"):
        memory.ask_for("order", kind)


def test_no_step_is_begun_behind_a_remembered_call_that_failed_again() -> None:
    memory = interrupted()
    do(memory, "reserve")
    memory.ask_for("charge", "call")

    with pytest.raises(StepError, match="has begun"):
        memory.ask_for("order", "write")


def test_answer_may_not_leave_a_remembered_step_aside() -> None:
    memory = remembered(("charge", "call", 1), ("order", "write", 2))
    do(memory, "charge")

    with pytest.raises(StepError, match=r"write 'order'.* answers without it"):
        memory.require_all_asked_for()


def test_answer_that_has_asked_for_all_steps_is_good() -> None:
    memory = remembered(("charge", "call", 1))
    do(memory, "charge")
    do(memory, "order", "write")
    memory.require_all_asked_for()


def test_answer_without_steps_is_good() -> None:
    Memory().require_all_asked_for()


# Forgetting


def test_forgotten_step_was_never_there() -> None:
    memory = remembered(("charge", "call", 1))
    do(memory, "charge")
    before = memory.effects
    assert memory.ask_for("order", "write") is None
    memory.forget(memory.begin("order", "write"))

    assert memory.effects == before
    memory.require_all_asked_for()


def test_forgotten_step_may_be_tried_again() -> None:
    memory = Memory()
    memory.ask_for("order", "write")
    memory.forget(memory.begin("order", "write"))

    assert do(memory, "order", "write", 7) == 7
    assert len(memory.steps) == 1


def test_another_step_may_come_in_place_of_a_forgotten_one() -> None:
    memory = Memory()
    memory.ask_for("order", "write")
    memory.forget(memory.begin("order", "write"))

    assert do(memory, "apology", "write", 8) == 8


# Results


@pytest.mark.parametrize(
    ("result", "found"),
    [
        pytest.param(None, None, id="nothing"),
        pytest.param(True, True, id="bool"),
        pytest.param(7, 7, id="int"),
        pytest.param(10**30, 10**30, id="long int"),
        pytest.param(0.1, 0.1, id="float"),
        pytest.param("ü\n\U0001f600", "ü\n\U0001f600", id="text"),
        pytest.param("\\u0000", "\\u0000", id="text that spells a NUL"),
        pytest.param(
            "\\\\u0000\\", "\\\\u0000\\", id="text with backslashes before one"
        ),
        pytest.param("\x01\x7f", "\x01\x7f", id="other control characters"),
        pytest.param((1, (2,)), [1, [2]], id="tuples"),
        pytest.param({"a": [{"b": None}]}, {"a": [{"b": None}]}, id="nested"),
        pytest.param({1: "a"}, {"1": "a"}, id="number as a name"),
        pytest.param(Decimal("9.90"), "9.90", id="Decimal"),
        pytest.param(Decimal("1E+3"), "1E+3", id="Decimal with an exponent"),
        pytest.param(
            uuid.UUID("6f1c0d0a-9b38-4f4e-8f5a-0d6a1a3b2c4d"),
            "6f1c0d0a-9b38-4f4e-8f5a-0d6a1a3b2c4d",
            id="UUID",
        ),
        pytest.param(
            datetime(2026, 7, 1, 12, 30, 5, tzinfo=UTC),
            "2026-07-01T12:30:05Z",
            id="datetime",
        ),
        pytest.param(date(2026, 7, 1), "2026-07-01", id="date"),
        pytest.param(time(12, 30), "12:30:00", id="time"),
        pytest.param(timedelta(minutes=1), "P0DT00H01M00S", id="timedelta"),
        pytest.param(lazystr("paid"), "paid", id="lazy text"),
    ],
)
def test_result_is_what_json_makes_of_it(result: Any, found: Any) -> None:
    assert as_json(result, "charge") == found


@pytest.mark.parametrize(
    "result",
    [
        pytest.param((1, {"a": Decimal("1.10")}), id="converted"),
        pytest.param({"a": [1, None, "ü"]}, id="plain"),
    ],
)
def test_result_is_the_same_on_each_try(result: Any) -> None:
    first = as_json(result, "charge")

    assert as_json(first, "charge") == first


def test_result_is_not_changed_by_what_the_view_does_with_it() -> None:
    result = {"items": [1]}
    found = as_json(result, "charge")
    found["items"].append(2)

    assert result == {"items": [1]}


def endless() -> Any:
    inner: list[Any] = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(object, id="object"),
        pytest.param(lambda: b"bytes", id="bytes"),
        pytest.param(lambda: {1, 2}, id="set"),
        pytest.param(lambda: {(1, 2): 3}, id="tuple as a name"),
        pytest.param(lambda: [Step("a", "call")], id="object inside"),
        pytest.param(lambda: math.nan, id="NaN"),
        pytest.param(lambda: [math.inf], id="infinity"),
        pytest.param(lambda: {"a": -math.inf}, id="minus infinity"),
        pytest.param(lambda: "\ud800", id="lone surrogate"),
        pytest.param(lambda: {"\udfff": 1}, id="lone surrogate as a name"),
        pytest.param(lambda: "a\0b", id="NUL"),
        pytest.param(lambda: {"\0": 1}, id="NUL as a name"),
        pytest.param(lambda: "\\\0", id="NUL behind a backslash"),
        pytest.param(lambda: ["\\u0000", "\0"], id="NUL beside a text that spells it"),
        pytest.param(endless, id="endless"),
        pytest.param(lambda: time(12, 30, tzinfo=UTC), id="aware time"),
    ],
)
def test_result_that_cannot_be_repeated_is_refused(result: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match="step 'charge'"):
        as_json(result(), "charge")


def test_result_that_is_nested_too_deeply_is_refused() -> None:
    result: list[Any] = []
    for _ in range(100_000):
        result = [result]

    with pytest.raises(TypeError, match="step 'charge'"):
        as_json(result, "charge")


def test_result_that_is_refused_is_not_told() -> None:
    """It may be a secret."""
    with pytest.raises(TypeError) as refusal:
        as_json({"card": b"4242"}, "charge")

    assert "4242" not in str(refusal.value)


# What a person has found out


def test_settled_call_is_done_with_what_was_found() -> None:
    memory = interrupted()
    memory.settle(applied=True, result=Decimal("9.90"), note={"by": "ann"})

    assert memory.unfinished is None
    assert memory.effects["steps"][-1] == {
        "name": "charge",
        "kind": "call",
        "done": True,
        "result": "9.90",
    }


def test_call_that_was_not_applied_may_be_made_again() -> None:
    memory = interrupted()
    memory.settle(applied=False, result=None, note={"by": "ann"})
    do(memory, "reserve")

    assert memory.ask_for("charge", "call") is None


def test_each_settlement_is_noted() -> None:
    memory = interrupted()
    memory.settle(applied=False, result=None, note={"by": "ann"})
    memory = Memory(memory.effects)
    memory.settle(applied=True, result=None, note={"by": "bob"})

    assert memory.effects["settlements"] == [
        {"by": "ann", "applied": False},
        {"by": "bob", "applied": True},
    ]


def test_settling_what_is_not_unfinished_leaves_the_steps() -> None:
    memory = remembered(("charge", "call", 1))
    memory.settle(applied=False, result=None, note={})

    assert memory.effects["steps"] == remembered(("charge", "call", 1)).effects["steps"]
