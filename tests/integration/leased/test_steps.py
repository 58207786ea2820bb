"""Steps: each is committed when it is done, and no retry does it again."""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, JsonResponse

from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import LeaseLost, OutcomeUnknown, StepError
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from django_idempotency.purging import Purge
from tests.concurrency.answers import Answer, call, new_key, post
from tests.integration.leased.scene import (
    LEASE,
    change,
    let_the_lease_end,
    order,
    place,
    record,
    remembered,
    scene,
    states,
    take_over,
)
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.urls("tests.integration.leased.views"),
    pytest.mark.usefixtures("db"),
]

Deed = Callable[[Any], tuple[int, Any]]


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

    def find(self, key: str) -> str | None:
        return self.charges.get(key)


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


def then_crash(deed: Deed) -> Deed:
    """Die behind the deed: without a release, as a killed process does."""

    def crashing(request: Any) -> tuple[int, Any]:
        deed(request)
        raise Crash

    return crashing


class Crash(BaseException):
    """Stands for the end of the process; the record stays as it is at this moment."""


@contextmanager
def killed() -> Iterator[None]:
    """What a process that is killed by its view leaves: its commits, and a lease."""
    left: list[Any] = []

    def looked_at(request: Any) -> tuple[int, Any]:
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


def send(key: str, path: str = "plain") -> Answer:
    return post(f"/{path}/", key)


def run(deed: Deed, key: str) -> Answer:
    scene.deed = deed
    return send(key)


def crash(deed: Deed, key: str) -> None:
    """Run and be killed behind the last line of the deed."""
    scene.deed = then_crash(deed)
    with killed():
        send(key)


# Finished steps


def test_steps_of_one_try_run_in_their_order(bank: Bank) -> None:
    answer = run(checkout(bank), new_key())

    assert answer.json == {"charge": "ch_0", "order": Order.objects.get().pk}
    assert remembered() == [("charge", True), ("order", True)]


def test_call_gets_the_derived_key_of_its_name(bank: Bank) -> None:
    keys = []

    def deed(request: Any) -> tuple[int, Any]:
        keys.append(request.idempotency.key_for("charge"))
        request.idempotency.call("charge", bank.charge)
        return 201, {}

    run(deed, new_key())

    assert bank.asked == keys


def test_finished_steps_are_not_repeated_after_a_crash(bank: Bank) -> None:
    """FR-029, FR-013."""
    key = new_key()
    crash(checkout(bank), key)
    answer = run(checkout(bank), key)

    assert answer.json == {"charge": "ch_0", "order": Order.objects.get().pk}
    assert len(bank.asked) == 1
    assert send(key).body == answer.body


@pytest.mark.parametrize("deed", [ZeroDivisionError, SystemExit])
def test_finished_steps_are_not_repeated_after_an_error(
    deed: type[BaseException], bank: Bank
) -> None:
    """FR-029: the mail raises behind the order."""
    key = new_key()

    def with_mail(request: Any) -> tuple[int, Any]:
        checkout(bank)(request)
        raise deed

    scene.deed = with_mail
    with suppress(SystemExit):
        assert send(key).status == 500
    run(checkout(bank), key)

    assert (len(bank.asked), Order.objects.count()) == (1, 1)


def test_finished_steps_are_not_repeated_after_an_answer_of_500(bank: Bank) -> None:
    key = new_key()

    def refused(request: Any) -> tuple[int, Any]:
        checkout(bank)(request)
        return 503, {}

    run(refused, key)
    run(checkout(bank), key)

    assert (len(bank.asked), Order.objects.count()) == (1, 1)


def test_steps_go_on_where_the_crash_was(bank: Bank) -> None:
    key = new_key()

    def only_charge(request: Any) -> tuple[int, Any]:
        request.idempotency.call("charge", bank.charge)
        return 201, {}

    crash(only_charge, key)
    assert run(checkout(bank), key).word == "201"
    assert (len(bank.asked), Order.objects.count()) == (1, 1)


@pytest.mark.parametrize("step", ["call", "write"])
def test_result_is_the_same_on_the_first_try_and_on_a_retry(step: str) -> None:
    key = new_key()
    results = []

    def deed(request: Any) -> tuple[int, Any]:
        results.append(
            getattr(request.idempotency, step)(
                "price", lambda *key: (Decimal("9.90"), None)
            )
        )
        return 201, {}

    crash(deed, key)
    run(deed, key)

    assert results == [["9.90", None]] * 2


def test_memory_survives_any_number_of_tries(bank: Bank) -> None:
    key = new_key()
    for _ in range(3):
        crash(checkout(bank), key)
    run(checkout(bank), key)

    assert (len(bank.asked), Order.objects.count(), record().attempts) == (1, 1, 4)


def test_call_runs_outside_of_any_transaction() -> None:
    seen = []

    def deed(request: Any) -> tuple[int, Any]:
        request.idempotency.call(
            "charge", lambda key: seen.append(connection.in_atomic_block)
        )
        return 201, {}

    run(deed, new_key())

    assert seen == [False]


def test_write_that_fails_is_rolled_back_and_tried_again() -> None:
    key = new_key()

    def half() -> None:
        order()
        raise ZeroDivisionError

    def failing(request: Any) -> tuple[int, Any]:
        request.idempotency.write("order", half)
        return 201, {}

    assert run(failing, key).status == 500
    assert (Order.objects.count(), states()) == (0, ["released"])

    def good(request: Any) -> tuple[int, Any]:
        return 201, {"order": request.idempotency.write("order", order)}

    assert run(good, key).word == "201"
    assert Order.objects.count() == 1


def test_view_may_go_on_behind_a_write_that_failed() -> None:
    """With the same name or another: it was rolled back, and nothing is unknown."""

    def clash() -> None:
        Order.objects.create(reference="a")
        Order.objects.create(reference="a")

    def deed(request: Any) -> tuple[int, Any]:
        with pytest.raises(IntegrityError):
            request.idempotency.write("order", clash)
        return 201, {"order": request.idempotency.write("order", order)}

    assert run(deed, new_key()).word == "201"
    assert (Order.objects.count(), remembered()) == (1, [("order", True)])


def test_callback_that_fails_behind_the_commit_of_a_write_repeats_nothing() -> None:
    key = new_key()

    def with_callback() -> int:
        transaction.on_commit(lambda: 1 // 0)
        return order()

    def deed(request: Any) -> tuple[int, Any]:
        return 201, {"order": request.idempotency.write("order", with_callback)}

    assert run(deed, key).status == 500
    assert remembered() == [("order", True)]
    assert run(deed, key).word == "201"
    assert Order.objects.count() == 1


def test_no_step_and_no_answer_follows_a_commit_that_may_have_failed() -> None:
    """The view swallows the error; what was committed is known to the database alone."""
    key = new_key()
    errors = []

    def with_callback() -> int:
        transaction.on_commit(lambda: 1 // 0)
        return order()

    def deed(request: Any) -> tuple[int, Any]:
        with pytest.raises(ZeroDivisionError):
            request.idempotency.write("order", with_callback)
        with pytest.raises(LeaseLost) as refusal:
            request.idempotency.write("another", order)
        errors.append(refusal.value)
        return 201, {}

    assert run(deed, key).word == "409 in-flight"
    assert len(errors) == Order.objects.count() == 1


@pytest.mark.parametrize("step", ["call", "write"])
def test_result_that_cannot_be_remembered_is_refused(step: str) -> None:
    def deed(request: Any) -> tuple[int, Any]:
        getattr(request.idempotency, step)("a", lambda *key: order() and object())
        return 201, {}

    assert run(deed, new_key()).status == 500
    # A call has happened, and its outcome is unknown from here on.
    assert remembered() == ([("a", False)] if step == "call" else [])
    assert Order.objects.count() == (1 if step == "call" else 0)


def test_text_that_no_database_stores_never_reaches_it() -> None:
    def deed(request: Any) -> tuple[int, Any]:
        with pytest.raises(TypeError, match="NUL"):
            request.idempotency.write("a", lambda: "\0")
        return 201, {"order": request.idempotency.write("order", order)}

    assert run(deed, new_key()).word == "201"


# Unfinished calls


def test_unfinished_call_is_repeated_with_the_same_key(bank: Bank) -> None:
    """FR-027: the other side tells the repeat by it."""
    key = new_key()
    bank.is_silent = True
    assert run(checkout(bank), key).status == 500
    bank.is_silent = False
    assert run(checkout(bank), key).word == "201"

    assert (len(bank.asked), len(bank.charges)) == (2, 1)
    assert Order.objects.count() == 1


def test_call_that_raises_is_remembered_as_unfinished(bank: Bank) -> None:
    bank.is_down = True
    run(checkout(bank), new_key())

    assert (states(), remembered()) == (["released"], [("charge", False)])


def test_look_up_that_finds_the_outcome_spares_the_call(bank: Bank) -> None:
    key = new_key()
    deed = checkout(bank, if_unknown=bank.find)
    bank.is_silent = True
    run(deed, key)
    answer = run(deed, key)

    assert answer.json["charge"] == "ch_0"
    assert (len(bank.asked), remembered()) == (1, [("charge", True), ("order", True)])


def test_look_up_that_finds_nothing_makes_the_call(bank: Bank) -> None:
    key = new_key()
    deed = checkout(bank, if_unknown=bank.find)
    bank.is_down = True
    run(deed, key)
    bank.is_down = False

    assert run(deed, key).word == "201"
    assert (len(bank.asked), len(bank.charges)) == (2, 1)


def test_look_up_is_not_asked_on_the_first_try(bank: Bank) -> None:
    def find(key: str) -> str:
        raise AssertionError

    assert run(checkout(bank, if_unknown=find), new_key()).word == "201"


def test_look_up_gets_the_key_of_the_call(bank: Bank) -> None:
    key = new_key()
    seen: list[str] = []
    deed = checkout(bank, if_unknown=seen.append)
    bank.is_down = True
    run(deed, key)
    run(deed, key)

    assert seen == [bank.asked[0]]


def test_look_up_that_fails_leaves_the_outcome_unknown(bank: Bank) -> None:
    key = new_key()

    def find(key: str) -> str:
        raise TimeoutError

    deed = checkout(bank, if_unknown=find)
    bank.is_silent = True
    run(deed, key)

    assert run(deed, key).status == 500
    assert (len(bank.asked), remembered()) == (1, [("charge", False)])


@pytest.mark.parametrize(
    "if_unknown",
    [
        pytest.param("never", id="text"),
        pytest.param(None, id="nothing"),
        pytest.param(True, id="bool"),
        pytest.param([], id="list"),
    ],
)
@pytest.mark.parametrize("path", ["plain", "atomic"])
def test_policy_that_is_none_is_refused_before_the_call(
    if_unknown: Any, path: str, bank: Bank
) -> None:
    def deed(request: Any) -> tuple[int, Any]:
        with pytest.raises(ImproperlyConfigured, match="if_unknown="):
            request.idempotency.call("charge", bank.charge, if_unknown=if_unknown)
        return 201, {}

    scene.deed = deed
    assert send(new_key(), path).word == "201"
    assert bank.asked == []


def test_look_up_that_is_async_is_refused(bank: Bank) -> None:
    async def find(key: str) -> None: ...

    assert inspect.iscoroutinefunction(find)
    assert run(checkout(bank, if_unknown=find), new_key()).status == 500
    assert bank.asked == []


# Held


@pytest.fixture
def held(bank: Bank) -> str:
    """The key of an operation whose charge may have happened."""
    key = new_key()
    bank.is_silent = True
    assert run(checkout(bank, if_unknown="hold"), key).status == 500
    bank.is_silent = False
    return key


def test_held_operation_is_answered_until_a_person_decides(
    held: str, bank: Bank
) -> None:
    assert [send(held).word for _ in range(3)] == ["409 outcome-unknown"] * 3
    assert (len(bank.asked), scene.runs, states()) == (1, 1, ["held"])


def test_held_operation_has_no_time_to_come_back(held: str) -> None:
    assert "Retry-After" not in send(held).headers


def test_held_operation_has_no_lease(held: str) -> None:
    assert (record().lease_token, record().lease_expires_at) == (None, None)


def test_held_operation_never_expires(held: str) -> None:
    change(expires_at=Now() - timedelta(days=365))

    assert send(held).word == "409 outcome-unknown"


def test_held_operation_is_never_purged(held: str) -> None:
    change(expires_at=Now() - timedelta(days=365))
    purge = Purge.of_records(using="default", for_at_least=timedelta(0))

    assert (purge.count(), sum(purge.batches(10)), states()) == (0, 0, ["held"])


def test_held_operation_is_held_for_the_atomic_shape_as_well(held: str) -> None:
    @idempotent
    def view(request: HttpRequest) -> HttpResponse:
        raise AssertionError

    key = new_key()

    @idempotent(lease=LEASE)
    def leased(request: IdempotentRequest) -> HttpResponse:
        request.idempotency.call("charge", fail, if_unknown="hold")
        raise AssertionError

    with pytest.raises(ConnectionError):
        call(leased, key)
    assert call(view, key).word == "409 outcome-unknown"


def fail(key: str) -> None:
    raise ConnectionError


def test_crash_in_a_call_that_holds_is_held_when_the_lease_is_over(bank: Bank) -> None:
    """Nobody runs it again by itself."""
    key = new_key()

    def deadly(key: str) -> None:
        raise Crash

    def deed(request: Any) -> tuple[int, Any]:
        request.idempotency.call("charge", deadly, if_unknown="hold")
        return 201, {}

    scene.deed = deed
    with killed():
        send(key)

    assert run(checkout(bank, if_unknown="hold"), key).word == "409 outcome-unknown"
    assert bank.asked == []


def test_call_that_holds_is_in_flight_while_it_runs() -> None:
    key = new_key()
    copies = []

    def deed(request: Any) -> tuple[int, Any]:
        request.idempotency.call(
            "charge", lambda derived: copies.append(send(key)), if_unknown="hold"
        )
        return 201, {}

    assert run(deed, key).word == "201"
    assert copies[0].word == "409 in-flight"
    assert int(copies[0].headers["Retry-After"]) > 50


def test_call_that_holds_and_ends_well_is_held_no_more(bank: Bank) -> None:
    key = new_key()

    assert run(checkout(bank, if_unknown="hold"), key).word == "201"
    assert send(key).word == "201 replayed"


def test_failure_behind_a_call_that_holds_releases_the_key(bank: Bank) -> None:
    key = new_key()

    def deed(request: Any) -> tuple[int, Any]:
        checkout(bank, if_unknown="hold")(request)
        return 500, {}

    run(deed, key)

    assert states() == ["released"]
    assert run(checkout(bank, if_unknown="hold"), key).word == "201"
    assert (len(bank.asked), Order.objects.count()) == (1, 1)


def test_call_that_was_repeatable_and_now_holds_is_held(bank: Bank) -> None:
    """The policy was changed between two tries."""
    key = new_key()
    bank.is_silent = True
    run(checkout(bank), key)

    assert run(checkout(bank, if_unknown="hold"), key).word == "409 outcome-unknown"
    assert (states(), len(bank.asked)) == (["held"], 1)


def test_view_that_swallows_the_unknown_outcome_stays_held(bank: Bank) -> None:
    key = new_key()
    bank.is_silent = True
    run(checkout(bank), key)

    def deed(request: Any) -> tuple[int, Any]:
        with pytest.raises(OutcomeUnknown):
            checkout(bank, if_unknown="hold")(request)
        return 201, {}

    run(deed, key)
    assert send(key).word == "409 outcome-unknown"


def test_view_that_swallows_the_error_of_a_call_that_holds_stays_held(
    bank: Bank,
) -> None:
    key = new_key()
    bank.is_silent = True

    def deed(request: Any) -> tuple[int, Any]:
        with pytest.raises(TimeoutError):
            request.idempotency.call("charge", bank.charge, if_unknown="hold")
        return 201, {}

    run(deed, key)

    assert (send(key).word, states()) == ("409 outcome-unknown", ["held"])


def test_held_operation_is_logged(held: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="django_idempotency"):
        send(held)

    assert "idempotency held" in [each.getMessage() for each in caplog.records]


# Steps that were changed between two tries


def step(name: str, kind: str = "call") -> Callable[[Any], None]:
    return lambda request: getattr(request.idempotency, kind)(name, lambda *key: None)


def through(*steps: Callable[[Any], None]) -> Deed:
    def deed(request: Any) -> tuple[int, Any]:
        for each in steps:
            each(request)
        return 201, {}

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


@pytest.mark.parametrize("changed", CHANGED)
def test_steps_that_are_not_those_of_the_first_try_are_an_error(
    changed: list[Callable[[Any], None]],
) -> None:
    key = new_key()
    crash(FIRST, key)
    before = record().effects

    assert run(through(*changed), key).status == 500
    assert (states(), record().effects) == (["released"], before)
    assert record().last_error == "django_idempotency.exceptions.StepError"


@pytest.mark.parametrize("changed", CHANGED)
def test_view_that_is_put_back_goes_on(changed: list[Callable[[Any], None]]) -> None:
    key = new_key()
    crash(FIRST, key)
    run(through(*changed), key)

    assert run(FIRST, key).word == "201"


def test_step_that_was_added_behind_the_others_is_run() -> None:
    key = new_key()
    crash(FIRST, key)

    assert run(through(step("charge"), step("order", "write"), step("mail")), key).word
    assert remembered()[-1] == ("mail", True)


def test_two_steps_of_one_name_are_an_error_on_the_first_try() -> None:
    errors = []

    def deed(request: Any) -> tuple[int, Any]:
        step("charge")(request)
        with pytest.raises(StepError) as refusal:
            step("charge", "write")(request)
        errors.append(str(refusal.value))
        return 500, {}

    run(deed, new_key())
    assert "Name them apart" in errors[0]


def test_step_behind_a_call_whose_error_was_swallowed_is_an_error(bank: Bank) -> None:
    bank.is_down = True

    def deed(request: Any) -> tuple[int, Any]:
        with pytest.raises(ConnectionRefusedError):
            request.idempotency.call("charge", bank.charge)
        request.idempotency.write("order", order)
        return 201, {}

    assert run(deed, new_key()).status == 500
    assert (Order.objects.count(), states()) == (0, ["released"])


def test_answer_behind_a_call_whose_error_was_swallowed_is_the_views_affair(
    bank: Bank,
) -> None:
    """It may know better: a kept answer is what every repeat gets."""
    key = new_key()
    bank.is_down = True

    def deed(request: Any) -> tuple[int, Any]:
        with pytest.raises(ConnectionRefusedError):
            request.idempotency.call("charge", bank.charge)
        return 402, {}

    assert run(deed, key).word == "402"
    assert send(key).word == "402 replayed"


@pytest.mark.parametrize(("outer", "inner"), [("call", "write"), ("write", "call")])
def test_step_inside_a_step_is_an_error(outer: str, inner: str) -> None:
    def deed(request: Any) -> tuple[int, Any]:
        getattr(request.idempotency, outer)(
            "outer", lambda *key: step("inner", inner)(request)
        )
        return 201, {}

    assert run(deed, new_key()).status == 500
    assert states() == ["released"]


# Late owners


def late(key: str, act: Callable[[Any], Any]) -> tuple[Answer, list[Any]]:
    """Let another request take over, then act; return the late one's answer."""
    errors: list[Any] = []

    def deed(request: Any) -> tuple[int, Any]:
        successor = take_over(lambda: send(key))
        assert successor.word == "201"
        try:
            act(request.idempotency)
        except Exception as error:
            errors.append(type(error))
            raise
        return 200, {"late": True}

    return run(deed, key), errors


def test_write_of_a_late_owner_is_rolled_back() -> None:
    """FR-014."""
    key = new_key()
    answer, errors = late(key, lambda steps: steps.write("order", order))

    assert (answer.word, errors) == ("409 in-flight", [LeaseLost])
    assert Order.objects.count() == 1  # the other one's


def test_call_of_a_late_owner_is_not_made(bank: Bank) -> None:
    """FR-014."""
    answer, errors = late(new_key(), lambda steps: steps.call("charge", bank.charge))

    assert (answer.word, errors, bank.asked) == ("409 in-flight", [LeaseLost], [])


@pytest.mark.parametrize("length", [None, timedelta(hours=1)])
def test_lease_of_a_late_owner_cannot_be_extended(length: timedelta | None) -> None:
    answer, errors = late(new_key(), lambda steps: steps.extend(length))

    assert (answer.word, errors) == ("409 in-flight", [LeaseLost])
    assert record().lease_expires_at is None


def test_answer_of_a_late_owner_is_not_kept() -> None:
    """FR-014: its client is told to ask again, and gets the answer that counts."""
    key = new_key()
    answer, _ = late(key, lambda steps: None)

    assert answer.word == "409 in-flight"
    assert "late" not in send(key).json


def test_result_of_a_late_owners_call_is_not_remembered(bank: Bank) -> None:
    """It was made before the lease was lost; the successor repeats it with its key."""
    key = new_key()
    scene_of_successor = checkout(bank)

    def slow_charge(derived: str) -> str:
        charge = bank.charge(derived)
        take_over(lambda: send(key), scene_of_successor)
        return charge

    def deed(request: Any) -> tuple[int, Any]:
        request.idempotency.call("charge", slow_charge)
        request.idempotency.write("order", order)
        return 201, {}

    assert run(deed, key).word == "409 in-flight"
    assert send(key).word == "201 replayed"
    assert (Counter(bank.asked).most_common(1)[0][1], len(bank.charges)) == (2, 1)
    assert Order.objects.count() == 1


def test_late_owner_of_a_record_that_is_gone_writes_nothing() -> None:
    """Purged, or deleted by a person."""
    key = new_key()

    def deed(request: Any) -> tuple[int, Any]:
        IdempotencyRecord.objects.all().delete()
        request.idempotency.write("order", order)
        return 201, {}

    assert run(deed, key).word == "409 in-flight"
    assert Order.objects.count() == 0


def test_owner_that_is_late_but_was_not_taken_over_goes_on() -> None:
    """The token decides, not the clock."""
    key = new_key()

    def deed(request: Any) -> tuple[int, Any]:
        let_the_lease_end()
        return 201, {"order": request.idempotency.write("order", order)}

    assert run(deed, key).word == "201"
    assert send(key).word == "201 replayed"


def test_late_owner_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="django_idempotency"):
        late(new_key(), lambda steps: None)

    assert "idempotency lease lost" in [each.getMessage() for each in caplog.records]


# Extending


@pytest.mark.parametrize(
    ("length", "seconds"), [(None, 60), (timedelta(minutes=5), 300)]
)
def test_extended_lease_ends_so_long_from_now(
    length: timedelta | None, seconds: int
) -> None:
    key = new_key()
    copies = []

    def deed(request: Any) -> tuple[int, Any]:
        change(lease_expires_at=Now() + timedelta(seconds=2))
        request.idempotency.extend(length)
        copies.append(send(key))
        return 201, {}

    run(deed, key)

    left = int(copies[0].headers["Retry-After"])
    assert seconds - 5 <= left <= seconds


def test_lease_that_is_over_can_be_extended_by_its_owner() -> None:
    key = new_key()
    copies = []

    def deed(request: Any) -> tuple[int, Any]:
        let_the_lease_end()
        request.idempotency.extend()
        copies.append(send(key).word)
        return 201, {}

    run(deed, key)

    assert copies == ["409 in-flight"]


def test_extension_leaves_the_memory(bank: Bank) -> None:
    key = new_key()

    def deed(request: Any) -> tuple[int, Any]:
        charge = request.idempotency.call("charge", bank.charge)
        request.idempotency.extend()
        return 201, {"charge": charge}

    crash(deed, key)
    run(deed, key)

    assert len(bank.asked) == 1


# The atomic shape


def test_same_view_works_in_the_atomic_shape(bank: Bank) -> None:
    key = new_key()
    scene.deed = checkout(bank)

    assert [send(key, "atomic").word for _ in range(2)] == ["201", "201 replayed"]
    assert (len(bank.asked), Order.objects.count()) == (1, 1)


def test_same_view_repeats_its_calls_in_the_atomic_shape(bank: Bank) -> None:
    """A transaction that is rolled back takes the memory along; the key is the same."""
    key = new_key()

    def failing(request: Any) -> tuple[int, Any]:
        checkout(bank)(request)
        raise ZeroDivisionError

    for scene.deed in (failing, checkout(bank)):
        send(key, "atomic")

    assert (len(bank.asked), len(bank.charges)) == (2, 1)
    assert Order.objects.count() == 1


def test_extension_is_nothing_in_the_atomic_shape() -> None:
    def deed(request: Any) -> tuple[int, Any]:
        request.idempotency.extend()
        return 201, {}

    scene.deed = deed
    assert send(new_key(), "atomic").word == "201"


def test_result_is_the_same_in_both_shapes() -> None:
    def deed(request: Any) -> tuple[int, Any]:
        price = request.idempotency.call("price", lambda key: (Decimal("9.90"),))
        return 201, {"price": price}

    scene.deed = deed
    assert send(new_key(), "atomic").json == send(new_key()).json == {"price": ["9.90"]}


def test_failed_write_is_rolled_back_alone_in_the_atomic_shape() -> None:
    def half() -> None:
        order()
        raise ZeroDivisionError

    def deed(request: Any) -> tuple[int, Any]:
        with pytest.raises(ZeroDivisionError):
            request.idempotency.write("order", half)
        return 201, {"order": request.idempotency.write("order", order)}

    scene.deed = deed
    assert send(new_key(), "atomic").word == "201"
    assert Order.objects.count() == 1


def both_shapes(deed: Deed) -> tuple[Any, Any]:
    """One view in the leased and in the atomic shape, on one path."""

    def view(request: HttpRequest) -> HttpResponse:
        status, data = deed(request)
        return JsonResponse(data, status=status)

    return idempotent(lease=LEASE)(view), idempotent(view)


def test_atomic_view_respects_the_steps_of_a_leased_try(bank: Bank) -> None:
    """The lease was taken away from the view between two tries."""
    key = new_key()

    def crashing(request: Any) -> tuple[int, Any]:
        checkout(bank)(request)
        raise ZeroDivisionError

    leased, _ = both_shapes(crashing)
    with pytest.raises(ZeroDivisionError):
        call(leased, key)
    _, atomic = both_shapes(checkout(bank))

    assert [call(atomic, key).word for _ in range(2)] == ["201", "201 replayed"]
    assert (len(bank.asked), Order.objects.count()) == (1, 1)


def test_atomic_view_repeats_an_unfinished_call_with_its_key(bank: Bank) -> None:
    key = new_key()
    leased, atomic = both_shapes(checkout(bank))
    bank.is_silent = True
    with pytest.raises(TimeoutError):
        call(leased, key)
    bank.is_silent = False

    assert call(atomic, key).word == "201"
    assert (len(bank.asked), len(bank.charges)) == (2, 1)


@pytest.mark.parametrize("changed", CHANGED)
def test_atomic_view_refuses_changed_steps_as_well(
    changed: list[Callable[[Any], None]],
) -> None:
    key = new_key()
    leased, _ = both_shapes(then_fail(FIRST))
    with pytest.raises(ZeroDivisionError):
        call(leased, key)
    before = record().effects
    _, atomic = both_shapes(through(*changed))

    with pytest.raises(StepError):
        call(atomic, key)
    assert (states(), record().effects) == (["released"], before)


def then_fail(deed: Deed) -> Deed:
    def failing(request: Any) -> tuple[int, Any]:
        deed(request)
        raise ZeroDivisionError

    return failing


def test_leased_view_replays_what_an_atomic_one_has_kept(bank: Bank) -> None:
    key = new_key()
    leased, atomic = both_shapes(place)
    call(atomic, key)

    assert call(leased, key).word == "201 replayed"


def test_atomic_view_respects_a_live_lease() -> None:
    key = new_key()
    copies = []

    @idempotent(wait=timedelta(0))
    def atomic(request: HttpRequest) -> HttpResponse:
        raise AssertionError

    def deed(request: Any) -> tuple[int, Any]:
        copies.append(call(atomic, key).word)
        return 201, {}

    leased, _ = both_shapes(deed)
    call(leased, key)

    assert copies == ["409 in-flight"]
