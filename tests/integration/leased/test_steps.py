"""Steps: each is committed when it is done, and no retry does it again."""

import inspect
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone

from django_idempotency.core.journal import LARGEST_RESULT
from django_idempotency.decorators import idempotent
from django_idempotency.engine.idempotency import Idempotency
from django_idempotency.engine.steps import EventSteps, LeasedSteps
from django_idempotency.exceptions import LeaseLost, OutcomeUnknown, StepError
from django_idempotency.models import IdempotencyRecord
from tests.integration.leased.scene import (
    LEASE,
    Deed,
    let_the_lease_end,
    order,
    place,
    remembered,
    scene,
    send,
    take_over,
    words,
)
from tests.support.cases import cases
from tests.support.client import Answer, call
from tests.support.records import change, record, states
from tests.support.values import ANSWERS
from tests.testapp.models import CartItem, Order

pytestmark = [
    pytest.mark.urls("tests.integration.leased.views"),
    pytest.mark.usefixtures("db"),
]


class Bank:
    """The other side: it knows how often it was asked, and honours keys."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.charges: dict[str, str] = {}
        self.is_silent = False
        """Whether the answers to its requests get lost."""
        self.is_down = False

    def charge(self, key: str) -> str:
        self.asked.append(key)
        if self.is_down:
            raise ConnectionRefusedError
        self.charges[key] = f"ch_{len(self.charges)}"
        if self.is_silent:
            raise TimeoutError
        return self.charges[key]


@pytest.fixture
def bank() -> Bank:
    return Bank()


def checkout(bank: Bank, **options: Any) -> Deed:
    """Charge, order, and send a mail, each in a step."""

    def deed(request: Any) -> tuple[int, Any]:
        steps = request.idempotency
        charge = steps.call("charge", bank.charge, **options)
        number = steps.write("order", order)
        return 201, {"charge": charge, "order": number}

    return deed


class Crash(BaseException):
    """Stands for the end of the process; the record stays as it is at this moment."""


@contextmanager
def killed() -> Iterator[None]:
    """What a process that is killed by its view leaves: its commits, and a lease."""
    left: list[Any] = []

    def looked_at(request: Any) -> tuple[int, Any] | None:
        try:
            return deed(request)
        except BaseException:
            left.extend(IdempotencyRecord.objects.values())
            raise

    deed, scene.deed = scene.deed, looked_at
    with pytest.raises(Crash):
        yield
    # The release of a process that had a chance to do so is undone.
    columns = left[0]
    IdempotencyRecord.objects.filter(pk=columns.pop("id")).update(**columns)
    let_the_lease_end()


def run(deed: Deed) -> Answer:
    scene.deed = deed
    return send()


def then(deed: Deed, end: Callable[[], Any]) -> Deed:
    """Do this, and end so: with an error, or with another answer."""

    def ending(request: Any) -> Any:
        deed(request)
        return end()

    return ending


def raising(error: BaseException) -> Any:
    raise error


def despite(
    error: type[Exception], deed: Deed, end: Deed = lambda request: None
) -> Deed:
    """Swallow the error of this, and go on."""

    def going_on(request: Any) -> tuple[int, Any] | None:
        with pytest.raises(error):
            deed(request)
        return end(request)

    return going_on


def crash(deed: Deed) -> None:
    """Run and be killed behind the last line of the deed."""
    scene.deed = then(deed, lambda: raising(Crash()))
    with killed():
        send()


# Finished steps


def test_call_gets_the_derived_key_of_its_name(bank: Bank) -> None:
    keys = []

    def deed(request: Any) -> None:
        keys.append(request.idempotency.key_for("charge"))
        request.idempotency.call("charge", bank.charge)

    run(deed)

    assert bank.asked == keys


def test_finished_steps_are_not_repeated_after_any_number_of_crashes(
    bank: Bank,
) -> None:
    """FR-029, FR-013."""
    for _ in range(3):
        crash(checkout(bank))
    answer = run(checkout(bank))

    assert answer.json == {"charge": "ch_0", "order": Order.objects.get().pk}
    assert (len(bank.asked), record().attempts) == (1, 4)
    assert send().body == answer.body


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(lambda: raising(ZeroDivisionError()), id="error"),
        pytest.param(lambda: raising(SystemExit()), id="exit"),
        pytest.param(lambda: (503, {}), id="answer of 503"),
    ],
)
def test_finished_steps_are_not_repeated_after_a_failure(
    end: Callable[[], Any], bank: Bank
) -> None:
    """FR-029: it comes behind the order."""
    scene.deed = then(checkout(bank), end)
    with suppress(SystemExit):
        assert send().status >= 500
    run(checkout(bank))

    assert (len(bank.asked), Order.objects.count()) == (1, 1)


def test_steps_go_on_where_the_crash_was(bank: Bank) -> None:
    crash(lambda request: request.idempotency.call("charge", bank.charge))
    assert run(checkout(bank)).word == "201"
    assert (len(bank.asked), Order.objects.count()) == (1, 1)


@pytest.mark.parametrize("step", ["call", "write"])
def test_result_is_the_same_on_the_first_try_and_on_a_retry(step: str) -> None:
    results = []

    def deed(request: Any) -> None:
        ask = getattr(request.idempotency, step)
        results.append(ask("price", lambda *key: (Decimal("9.90"), None)))

    crash(deed)
    run(deed)

    assert results == [["9.90", None]] * 2


@pytest.mark.parametrize("step", ["call", "write"])
def test_any_answer_is_the_same_on_the_first_try_and_on_a_retry(step: str) -> None:
    """To the byte, and none of them keeps the operation from its end."""
    tries: list[str] = []
    asked = []

    def other_side(answer: Any, *key: str) -> Any:
        asked.append(answer)
        return answer

    def deed(request: Any) -> tuple[int, Any]:
        ask = getattr(request.idempotency, step)
        found = [
            ask(f"{at}", partial(other_side, answer))
            for at, answer in enumerate(ANSWERS)
        ]
        tries.append(repr(found))
        return 201, {}

    crash(deed)
    assert run(deed).word == "201"

    assert tries[0] == tries[1]
    assert len(asked) == len(ANSWERS)


def deep() -> Any:
    result: list[Any] = []
    for _ in range(100_000):
        result = [result]
    return result


@pytest.mark.parametrize("path", ["plain", "atomic"])
@cases(
    "made",
    {"too large": lambda: "x" * LARGEST_RESULT, "too deep": deep},
)
def test_answer_that_cannot_be_remembered_is_good_for_this_try(
    made: Callable[[], Any], path: str, bank: Bank
) -> None:
    def deed(request: Any) -> tuple[int, Any]:
        answer = request.idempotency.call("huge", lambda key: made(), if_unknown="hold")
        charge = request.idempotency.call("charge", bank.charge)
        return 201, {"is whole": len(answer) == len(made()), "charge": charge}

    scene.deed = deed
    assert send(path).json["is whole"] is True
    assert send(path).word == "201 replayed"


@cases(
    "if_unknown, word, asked",
    {
        "repeat": ("repeat", "201", 2),
        "look-up": (lambda key: "found", "201", 1),
        "hold": ("hold", "409 outcome-unknown", 1),
    },
)
def test_call_whose_answer_was_not_remembered_is_one_with_an_unknown_outcome(
    if_unknown: Any, word: str, asked: int, bank: Bank, caplog: pytest.LogCaptureFixture
) -> None:
    """For a retry; and the steps that follow it are remembered."""
    answers = []

    def deed(request: Any) -> tuple[int, Any]:
        def huge(key: str) -> str:
            answers.append(key)
            return "x" * LARGEST_RESULT

        request.idempotency.call("huge", huge, if_unknown=if_unknown)
        return checkout(bank)(request) or (201, {})

    crash(deed)
    assert remembered() == [("huge", False), ("charge", True), ("order", True)]
    assert run(deed).word == word

    assert (len(answers), len(set(answers))) == (asked, 1)
    assert (len(bank.asked), Order.objects.count()) == (1, 1)
    assert "the call 'huge' is too large to be remembered" in caplog.text


MANY = 120


@pytest.mark.parametrize("kind", ["call", "write"])
def test_many_steps_are_remembered_on_their_pages(kind: str) -> None:
    done = []

    def page(at: int, *key: str) -> int:
        done.append(at)
        return at

    def deed(request: Any) -> tuple[int, Any]:
        ask = getattr(request.idempotency, kind)
        numbers = [ask(f"page {at}", partial(page, at)) for at in range(MANY)]
        return 201, {"sum": sum(numbers)}

    crash(deed)
    assert [step["result"] for step in record().steps] == [*range(MANY)]
    assert len(record().effects["steps"]) < MANY / 2
    assert run(deed).json == {"sum": sum(range(MANY))}
    assert len(done) == MANY


def test_call_runs_outside_of_any_transaction() -> None:
    seen: list[bool] = []

    def look(key: str) -> None:
        seen.append(connection.in_atomic_block)

    run(lambda request: request.idempotency.call("charge", look))

    assert seen == [False]


def half() -> None:
    order()
    raise ZeroDivisionError


def ordering(write: Callable[[], Any] = order) -> Callable[[Any], tuple[int, Any]]:
    """Write an order, in a step."""
    return lambda request: (201, {"order": request.idempotency.write("order", write)})


def test_write_that_fails_is_rolled_back_and_tried_again() -> None:
    assert run(ordering(half)).status == 500
    assert (Order.objects.count(), states()) == (0, ["released"])

    assert run(ordering()).word == "201"
    assert Order.objects.count() == 1


def clash() -> None:
    for _ in range(2):
        Order.objects.create(reference="a")


@pytest.mark.parametrize(
    ("write", "error"),
    [
        pytest.param(clash, IntegrityError, id="refused by the database"),
        pytest.param(lambda: object(), TypeError, id="nothing that JSON knows"),
    ],
)
def test_view_may_go_on_behind_a_write_that_failed(
    write: Callable[[], Any], error: type[Exception]
) -> None:
    """With the same name or another: it was rolled back, and nothing is unknown."""

    assert run(despite(error, ordering(write), ordering())).word == "201"
    assert (Order.objects.count(), remembered()) == (1, [("order", True)])


def with_failing_callback() -> int:
    transaction.on_commit(lambda: 1 // 0)
    return order()


def test_callback_that_fails_behind_the_commit_of_a_write_repeats_nothing() -> None:
    deed = ordering(with_failing_callback)

    assert run(deed).status == 500
    assert remembered() == [("order", True)]
    assert run(deed).word == "201"
    assert Order.objects.count() == 1


def test_view_may_go_on_behind_a_callback_that_failed() -> None:
    """The write is committed, and known to be."""
    deed = despite(
        ZeroDivisionError, ordering(with_failing_callback), step("another", "write")
    )

    assert run(deed).word == "201"
    assert (Order.objects.count(), remembered()) == (
        1,
        [("order", True), ("another", True)],
    )


def failing_at_its_commit(code: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMPORARY TABLE late (id int) ON COMMIT DROP;"
            " CREATE FUNCTION pg_temp.fail() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN RAISE EXCEPTION USING ERRCODE = TG_ARGV[0]; END';"
            " CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE"
            " INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pg_temp.fail(%s);"
            " INSERT INTO late VALUES (1)",
            [code],
        )
    return order()


def with_a_cart_that_is_not_there() -> int:
    CartItem.objects.create(cart_id=0)
    return order()


ROLLED_BACK = [
    pytest.param(
        with_a_cart_that_is_not_there,
        id="no such row",
        marks=pytest.mark.deferred_constraints,
    ),
    *(
        pytest.param(
            partial(failing_at_its_commit, code),
            id=code,
            marks=pytest.mark.postgresql,
        )
        for code in ("23503", "23505", "23514", "23P01", "40001", "40P01")
    ),
]


@pytest.mark.parametrize("write", ROLLED_BACK)
def test_commit_that_the_database_refuses_leaves_the_answer_to_the_view(
    write: Callable[[], int], bank: Bank
) -> None:
    """It is rolled back for certain: nothing is unknown, and nothing is lost."""

    def taken(request: Any) -> tuple[int, Any]:
        steps = request.idempotency
        steps.call("charge", bank.charge, if_unknown="hold")
        with pytest.raises(DatabaseError):
            steps.write("order", write)
        refund = steps.call("refund", bank.charge, if_unknown="hold")
        return 409, {"refunded": refund}

    scene.deed = taken

    assert words() == ["409", "409 replayed"]
    assert (Order.objects.count(), states(), len(bank.asked)) == (0, ["kept"], 2)


@pytest.mark.postgresql
def test_no_step_and_no_answer_follows_a_commit_whose_end_is_unknown() -> None:
    """The view swallows the error; what was committed is known to the database alone."""
    refused = despite(LeaseLost, step("another", "write"))
    deed = despite(
        DatabaseError, ordering(partial(failing_at_its_commit, "08006")), refused
    )

    assert run(deed).word == "409 in-flight"
    assert (Order.objects.count(), states(), remembered()) == (0, ["in_flight"], [])


@pytest.mark.parametrize("step", ["call", "write"])
def test_result_that_cannot_be_remembered_is_refused(step: str) -> None:
    def deed(request: Any) -> None:
        getattr(request.idempotency, step)("a", lambda *key: order() and object())

    assert run(deed).status == 500
    # A call has happened, and its outcome is unknown from here on.
    assert remembered() == ([("a", False)] if step == "call" else [])
    assert Order.objects.count() == (1 if step == "call" else 0)


# Unfinished calls


def test_unfinished_call_is_repeated_with_the_same_key(bank: Bank) -> None:
    """FR-027: the other side tells the repeat by it."""
    bank.is_silent = True
    assert run(checkout(bank)).status == 500
    assert (states(), remembered()) == (["released"], [("charge", False)])

    bank.is_silent = False
    assert run(checkout(bank)).word == "201"
    assert (len(bank.asked), len(bank.charges)) == (2, 1)
    assert Order.objects.count() == 1


@pytest.mark.parametrize(
    ("fault", "asked"), [("is_silent", 1), ("is_down", 2)], ids=["found", "not found"]
)
def test_call_is_made_again_only_if_the_look_up_finds_nothing(
    fault: str, asked: int, bank: Bank
) -> None:
    looked_up = []

    def find(key: str) -> str | None:
        looked_up.append(key)
        return bank.charges.get(key)

    deed = checkout(bank, if_unknown=find)
    setattr(bank, fault, True)
    run(deed)
    setattr(bank, fault, False)
    answer = run(deed)

    assert (answer.word, answer.json["charge"]) == ("201", "ch_0")
    assert (len(bank.asked), looked_up) == (asked, [bank.asked[0]])
    assert remembered() == [("charge", True), ("order", True)]


def test_look_up_that_fails_leaves_the_outcome_unknown(bank: Bank) -> None:
    def find(key: str) -> str:
        raise TimeoutError

    deed = checkout(bank, if_unknown=find)
    bank.is_silent = True
    run(deed)

    assert run(deed).status == 500
    assert (len(bank.asked), remembered()) == (1, [("charge", False)])


@pytest.mark.parametrize("if_unknown", ["never", None, True, []], ids=repr)
@pytest.mark.parametrize("path", ["plain", "atomic"])
def test_policy_that_is_none_is_refused_before_the_call(
    if_unknown: Any, path: str, bank: Bank
) -> None:
    scene.deed = despite(ImproperlyConfigured, checkout(bank, if_unknown=if_unknown))
    assert send(path).word == "201"
    assert bank.asked == []


def test_look_up_that_is_async_is_refused(bank: Bank) -> None:
    async def find(key: str) -> None: ...

    assert inspect.iscoroutinefunction(find)
    assert run(checkout(bank, if_unknown=find)).status == 500
    assert bank.asked == []


# Held


def test_held_operation_is_answered_until_a_person_decides(
    bank: Bank, caplog: pytest.LogCaptureFixture
) -> None:
    bank.is_silent = True
    assert run(checkout(bank, if_unknown="hold")).status == 500
    bank.is_silent = False
    with caplog.at_level(logging.WARNING, logger="django_idempotency"):
        assert words(count=3) == ["409 outcome-unknown"] * 3

    assert (len(bank.asked), scene.runs, states()) == (1, 1, ["held"])
    assert (record().lease_token, record().lease_expires_at) == (None, None)
    actions = [getattr(each, "action", None) for each in caplog.records]
    # When its view has ended, and for each client that is refused.
    assert [each for each in actions if each] == ["held"] * 4


def test_held_operation_is_held_for_the_atomic_shape_as_well(bank: Bank) -> None:
    bank.is_silent = True
    fail_leased(checkout(bank, if_unknown="hold"))
    _, atomic = both_shapes(checkout(bank, if_unknown="hold"))

    assert call(atomic, scene.key).word == "409 outcome-unknown"
    assert len(bank.asked) == 1


def test_crash_in_a_call_that_holds_is_held_when_the_lease_is_over(bank: Bank) -> None:
    """Nobody runs it again by itself."""

    def deadly(key: str) -> None:
        raise Crash

    scene.deed = lambda request: request.idempotency.call(
        "charge", deadly, if_unknown="hold"
    )
    with killed():
        send()

    assert run(checkout(bank, if_unknown="hold")).word == "409 outcome-unknown"
    assert bank.asked == []


def test_call_that_holds_is_in_flight_while_it_runs() -> None:
    copies = []

    def deed(request: Any) -> None:
        request.idempotency.call(
            "charge", lambda derived: copies.append(send()), if_unknown="hold"
        )

    assert run(deed).word == "201"
    assert copies[0].word == "409 in-flight"
    assert int(copies[0].headers["Retry-After"]) > 50


def test_failure_behind_a_call_that_holds_releases_the_key(bank: Bank) -> None:
    deed = checkout(bank, if_unknown="hold")
    run(then(deed, lambda: (500, {})))

    assert states() == ["released"]
    assert run(deed).word == "201"
    assert (len(bank.asked), Order.objects.count()) == (1, 1)


def test_call_that_was_repeatable_and_now_holds_is_held(bank: Bank) -> None:
    """The policy was changed between two tries."""
    bank.is_silent = True
    run(checkout(bank))

    assert run(checkout(bank, if_unknown="hold")).word == "409 outcome-unknown"
    assert (states(), len(bank.asked)) == (["held"], 1)


def test_view_that_swallows_the_unknown_outcome_stays_held(bank: Bank) -> None:
    bank.is_silent = True
    run(checkout(bank))

    run(despite(OutcomeUnknown, checkout(bank, if_unknown="hold")))
    assert send().word == "409 outcome-unknown"


def test_view_that_swallows_the_error_of_a_call_that_holds_stays_held(
    bank: Bank,
) -> None:
    bank.is_silent = True
    run(despite(TimeoutError, checkout(bank, if_unknown="hold")))

    assert (send().word, states()) == ("409 outcome-unknown", ["held"])


# Steps that were changed between two tries


def step(name: str, kind: str = "call") -> Callable[[Any], None]:
    return lambda request: getattr(request.idempotency, kind)(name, lambda *key: None)


def through(*steps: Callable[[Any], None]) -> Deed:
    def deed(request: Any) -> None:
        for each in steps:
            each(request)

    return deed


CHANGED = [
    pytest.param([step("pay"), step("order", "write")], id="renamed"),
    pytest.param([step("order", "write")], id="removed"),
    pytest.param([], id="all removed"),
    pytest.param([step("charge")], id="last removed"),
    pytest.param([step("charge", "write"), step("order", "write")], id="kind"),
    pytest.param([step("order", "write"), step("charge")], id="order"),
    pytest.param([step("new"), step("charge"), step("order", "write")], id="inserted"),
    pytest.param([step("charge"), step("charge")], id="twice"),
]
FIRST = through(step("charge"), step("order", "write"))


@pytest.mark.parametrize("is_leased", [True, False], ids=["leased", "atomic"])
@pytest.mark.parametrize("changed", CHANGED)
def test_steps_that_are_not_those_of_the_first_try_are_an_error(
    changed: list[Callable[[Any], None]], is_leased: bool
) -> None:
    fail_leased(then(FIRST, lambda: raising(ZeroDivisionError())))
    before = record().effects
    leased, atomic = both_shapes(through(*changed))

    with pytest.raises(StepError):
        call(leased if is_leased else atomic, scene.key)
    assert (states(), record().effects) == (["released"], before)
    put_back, _ = both_shapes(FIRST)
    assert call(put_back, scene.key).word == "201"


def test_step_that_was_added_behind_the_others_is_run() -> None:
    crash(FIRST)

    added = through(step("charge"), step("order", "write"), step("mail"))
    assert run(added).word == "201"
    assert remembered()[-1] == ("mail", True)


def test_step_behind_a_call_whose_error_was_swallowed_is_an_error(bank: Bank) -> None:
    bank.is_down = True

    assert (
        run(despite(ConnectionRefusedError, checkout(bank), ordering())).status == 500
    )
    assert (Order.objects.count(), states()) == (0, ["released"])


def test_answer_behind_a_call_whose_error_was_swallowed_is_the_views_affair(
    bank: Bank,
) -> None:
    """It may know better: a kept answer is what every repeat gets."""
    bank.is_down = True
    declined = despite(
        ConnectionRefusedError, checkout(bank), lambda request: (402, {})
    )

    assert run(declined).word == "402"
    assert send().word == "402 replayed"


@pytest.mark.parametrize(("outer", "inner"), [("call", "write"), ("write", "call")])
def test_step_inside_a_step_is_an_error(outer: str, inner: str) -> None:
    def deed(request: Any) -> None:
        getattr(request.idempotency, outer)(
            "outer", lambda *key: step("inner", inner)(request)
        )

    assert run(deed).status == 500
    assert states() == ["released"]


# Late owners


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda steps: steps.write("order", order), id="FR-014-write"),
        pytest.param(lambda steps: steps.call("charge", order), id="FR-014-call"),
        pytest.param(lambda steps: steps.extend(), id="extend"),
        pytest.param(lambda steps: steps.extend(timedelta(hours=1)), id="extend-long"),
    ],
)
def test_late_owner_does_nothing_more(
    act: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """What counts is the one order of the request that has taken over."""
    errors = []

    def deed(request: Any) -> tuple[int, Any]:
        assert take_over().word == "201"
        with pytest.raises(LeaseLost) as refusal:
            act(request.idempotency)
        errors.append(refusal)
        raise refusal.value

    with caplog.at_level(logging.WARNING, logger="django_idempotency"):
        assert run(deed).word == "409 in-flight"

    assert len(errors) == Order.objects.count() == 1
    assert (record().lease_expires_at, states()) == (None, ["kept"])
    assert "idempotency lease lost" in [each.getMessage() for each in caplog.records]


def test_result_of_a_late_owners_call_is_not_remembered(bank: Bank) -> None:
    """It was made before the lease was lost; the successor repeats it with its key."""

    def slow_charge(derived: str) -> str:
        charge = bank.charge(derived)
        take_over(deed=checkout(bank))
        return charge

    def deed(request: Any) -> None:
        request.idempotency.call("charge", slow_charge)
        request.idempotency.write("order", order)

    assert run(deed).word == "409 in-flight"
    assert send().word == "201 replayed"
    assert (Counter(bank.asked).most_common(1)[0][1], len(bank.charges)) == (2, 1)
    assert Order.objects.count() == 1


def test_late_owner_of_a_record_that_is_gone_writes_nothing() -> None:
    """Purged, or deleted by a person."""

    def deed(request: Any) -> None:
        IdempotencyRecord.objects.all().delete()
        request.idempotency.write("order", order)

    assert run(deed).word == "409 in-flight"
    assert Order.objects.count() == 0


def test_owner_that_is_late_but_was_not_taken_over_goes_on() -> None:
    """The token decides, not the clock."""

    def deed(request: Any) -> tuple[int, Any] | None:
        let_the_lease_end()
        return ordering()(request)

    assert run(deed).word == "201"
    assert send().word == "201 replayed"


@cases(
    "if_unknown",
    {"repeat": "repeat", "hold": "hold", "look-up": lambda key: None},
)
@pytest.mark.parametrize("has_begun", [False, True], ids=["new", "begun before"])
def test_owner_whose_lease_is_over_begins_no_call(
    has_begun: bool, if_unknown: Any, bank: Bank
) -> None:
    """Whoever takes over may already be looking whether it has happened."""
    if has_begun:
        bank.is_down = True
        run(checkout(bank))
        bank.is_down = False
    asked = len(bank.asked)

    def late(request: Any) -> Any:
        let_the_lease_end()
        return checkout(bank, if_unknown=if_unknown)(request)

    word = run(late).word

    assert len(bank.asked) == asked
    assert word == (
        "409 outcome-unknown" if has_begun and if_unknown == "hold" else "409 in-flight"
    )


def test_lease_that_ends_while_the_begin_is_committed_begins_no_call(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped behind the COMMIT, for longer than the lease."""
    later = time.monotonic() + 2 * LEASE.total_seconds()
    give_back = LeasedSteps._give_connection_back

    def stopped(steps: LeasedSteps) -> None:
        give_back(steps)
        monkeypatch.setattr(time, "monotonic", lambda: later)

    monkeypatch.setattr(LeasedSteps, "_give_connection_back", stopped)

    assert run(checkout(bank)).word == "409 in-flight"
    assert bank.asked == []


def found(key: str) -> str:
    return "ch_found"


@cases(
    "before, act",
    {
        "call": (None, lambda steps, look: steps.call("charge", look)),
        "call that holds": (
            None,
            lambda steps, look: steps.call("charge", look, if_unknown="hold"),
        ),
        "call, behind its end": (
            None,
            lambda steps, look: (
                steps.call("charge", lambda key: almost_over()) or look()
            ),
        ),
        "call that is looked up": (
            "charge",
            lambda steps, look: (
                steps.call("charge", found, if_unknown=found) and look()
            ),
        ),
        "call that was begun": (
            "charge",
            lambda steps, look: steps.call("charge", look),
        ),
        "write": (None, lambda steps, look: steps.write("order", order) and look()),
    },
)
def test_each_step_renews_the_lease(
    before: str | None, act: Callable[[Any, Any], Any]
) -> None:
    """So the lease is to be longer than a step, and not than the view."""
    left: list[timedelta] = []

    def look(*key: str) -> None:
        end = record().lease_expires_at
        assert end is not None
        left.append(end - timezone.now())

    def deed(request: Any) -> None:
        almost_over()
        act(request.idempotency, look)

    if before:
        run(lambda request: request.idempotency.call(before, lambda key: 1 / 0))
    run(deed)

    assert left[0] > LEASE - timedelta(seconds=10)


SLOW_COMMIT = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(1.4); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON django_idempotency_idempotencyrecord
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (OLD.effects = '{}') EXECUTE FUNCTION slow();
"""


@pytest.fixture
def _slow_commit(db: None) -> Iterator[None]:
    """Of the first step, as where a disk or another node is waited for."""
    with connection.cursor() as cursor:
        cursor.execute(SLOW_COMMIT)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP FUNCTION slow CASCADE")


@pytest.mark.postgresql
@pytest.mark.usefixtures("_slow_commit")
@pytest.mark.parametrize("if_unknown", ["repeat", "hold"])
def test_call_has_its_lease_where_a_commit_is_slow(if_unknown: Any) -> None:
    """Else a call could last longer than what a slow commit has left of the lease."""
    lease = timedelta(seconds=5)
    renewed: list[bool] = []

    def charge(key: str) -> None:
        end = record().lease_expires_at
        assert end is not None
        renewed.append(end - lease > committed_by)

    committed_by = timezone.now() + timedelta(seconds=1.4)
    call(
        idempotent(lease=lease)(
            lambda request: JsonResponse(
                request.idempotency.call("charge", charge, if_unknown=if_unknown),
                safe=False,
            )
        ),
        scene.key,
    )

    assert renewed == [True]


def almost_over() -> None:
    change(lease_expires_at=Now() + timedelta(seconds=20))


def test_no_step_shortens_a_lease_that_was_extended(bank: Bank) -> None:
    left: list[timedelta] = []

    def deed(request: Any) -> None:
        request.idempotency.extend(timedelta(hours=1))
        checkout(bank)(request)
        end = record().lease_expires_at
        assert end is not None
        left.append(end - timezone.now())

    run(deed)

    assert left[0] > timedelta(minutes=59)


def test_call_that_has_outlasted_its_lease_is_remembered(bank: Bank) -> None:
    """Unless another request has taken over; to forget it would help nobody."""

    def slow_charge(key: str) -> str:
        let_the_lease_end()
        return bank.charge(key)

    crash(lambda request: request.idempotency.call("charge", slow_charge))

    assert remembered() == [("charge", True)]


# Extending


@pytest.mark.parametrize(
    ("left", "length", "seconds"),
    [(2, None, 60), (2, timedelta(minutes=5), 300), (-1, None, 60)],
    ids=["as at first", "longer", "already over"],
)
def test_extended_lease_ends_so_long_from_now(
    left: int, length: timedelta | None, seconds: int
) -> None:
    copies = []

    def deed(request: Any) -> None:
        change(lease_expires_at=Now() + timedelta(seconds=left))
        request.idempotency.extend(length)
        copies.append(send())

    run(deed)

    assert seconds - 5 <= int(copies[0].headers["Retry-After"]) <= seconds


@pytest.mark.parametrize(
    "length", [60, timedelta(0), timedelta(seconds=-1), timedelta(hours=48)], ids=str
)
@pytest.mark.parametrize("shape", ["leased", "atomic, of an event", "without a key"])
def test_extension_that_cannot_be_meant_is_refused(length: Any, shape: str) -> None:
    """In each shape: the view may get a lease tomorrow."""
    refusals = []

    def extend(operation: Idempotency) -> None:
        with pytest.raises(ValueError, match="lease=") as refused:
            operation.extend(length)
        refusals.append(refused)

    match shape:
        case "leased":
            run(lambda request: extend(request.idempotency))
        case "without a key":
            extend(Idempotency())
        case _:
            extend(Idempotency(EventSteps(uuid.uuid4(), "default")))
    assert len(refusals) == 1


def test_extension_leaves_the_memory(bank: Bank) -> None:
    def deed(request: Any) -> tuple[int, Any]:
        charge = request.idempotency.call("charge", bank.charge)
        request.idempotency.extend()
        return 201, {"charge": charge}

    crash(deed)
    run(deed)

    assert len(bank.asked) == 1


# The atomic shape


def test_same_view_works_in_the_atomic_shape(bank: Bank) -> None:
    def deed(request: Any) -> tuple[int, Any] | None:
        request.idempotency.extend()  # which is nothing here
        return checkout(bank)(request)

    scene.deed = deed

    assert words("atomic") == ["201", "201 replayed"]
    assert (len(bank.asked), Order.objects.count()) == (1, 1)


def test_same_view_repeats_its_calls_in_the_atomic_shape(bank: Bank) -> None:
    """A transaction that is rolled back takes the memory along; the key is the same."""
    failing = then(checkout(bank), lambda: raising(ZeroDivisionError()))
    for scene.deed in (failing, checkout(bank)):
        send("atomic")

    assert (len(bank.asked), len(bank.charges)) == (2, 1)
    assert Order.objects.count() == 1


def test_result_is_the_same_in_both_shapes() -> None:
    def deed(request: Any) -> tuple[int, Any]:
        price = request.idempotency.call("price", lambda key: (Decimal("9.90"),))
        return 201, {"price": price}

    scene.deed = deed
    assert send("atomic").json == send().json == {"price": ["9.90"]}


def test_failed_write_is_rolled_back_alone_in_the_atomic_shape() -> None:
    scene.deed = despite(ZeroDivisionError, ordering(half), ordering())

    assert send("atomic").word == "201"
    assert Order.objects.count() == 1


def fail_leased(deed: Deed) -> None:
    """Try it in the leased shape, on the path of `both_shapes`."""
    leased, _ = both_shapes(deed)
    with pytest.raises((TimeoutError, ZeroDivisionError)):
        call(leased, scene.key)


def both_shapes(deed: Deed) -> tuple[Any, Any]:
    """One view in the leased and in the atomic shape, on one path."""

    def view(request: HttpRequest) -> HttpResponse:
        status, data = deed(request) or (201, {})
        return JsonResponse(data, status=status)

    return idempotent(lease=LEASE)(view), idempotent(view)


def test_atomic_view_respects_the_steps_of_a_leased_try(bank: Bank) -> None:
    """The lease was taken away from the view between two tries."""
    fail_leased(then(checkout(bank), lambda: raising(ZeroDivisionError())))
    _, atomic = both_shapes(checkout(bank))

    assert [call(atomic, scene.key).word for _ in range(2)] == ["201", "201 replayed"]
    assert (len(bank.asked), Order.objects.count()) == (1, 1)


def test_atomic_view_repeats_an_unfinished_call_with_its_key(bank: Bank) -> None:
    bank.is_silent = True
    fail_leased(checkout(bank))
    bank.is_silent = False
    _, atomic = both_shapes(checkout(bank))

    assert call(atomic, scene.key).word == "201"
    assert (len(bank.asked), len(bank.charges)) == (2, 1)


def test_leased_view_replays_what_an_atomic_one_has_kept(bank: Bank) -> None:
    leased, atomic = both_shapes(place)
    call(atomic, scene.key)

    assert call(leased, scene.key).word == "201 replayed"


def test_atomic_view_respects_a_live_lease() -> None:
    copies = []

    @idempotent(wait=timedelta(0))
    def atomic(request: HttpRequest) -> HttpResponse:
        raise AssertionError

    def deed(request: Any) -> None:
        copies.append(call(atomic, scene.key).word)

    leased, _ = both_shapes(deed)
    call(leased, scene.key)

    assert copies == ["409 in-flight"]
