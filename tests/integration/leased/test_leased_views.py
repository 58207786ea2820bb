"""Views in the leased shape: the claim is committed first, and no transaction is open."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection, transaction
from django.db.models.functions import Now
from django.http import Http404, HttpRequest, HttpResponse

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.integration.leased.scene import (
    LEASE,
    Deed,
    order,
    place,
    remembered,
    scene,
    send,
    take_over,
    words,
)
from tests.integration.leased.views import (
    ASYNC,
    EVERY_PLACEMENT,
    HAS_REST_FRAMEWORK,
    answer,
    leased,
)
from tests.support.client import Answer, call, post
from tests.support.records import change, record, states
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.urls("tests.integration.leased.views"),
    pytest.mark.usefixtures("db"),
]

everywhere = pytest.mark.parametrize("place_of_view", EVERY_PLACEMENT)
INSIDE_OF_DJANGOS = ["method", "async-method", "api-view"]
"""Placements that can't tell Django to open no transaction under ATOMIC_REQUESTS."""

OUTSIDE_OF_DJANGOS = [each for each in EVERY_PLACEMENT if each not in INSIDE_OF_DJANGOS]
needs_rest_framework = pytest.mark.skipif(
    not HAS_REST_FRAMEWORK, reason="REST framework is an extra"
)


# First calls and repeats


@everywhere
def test_first_call_runs_and_repeats_are_replayed(place_of_view: str) -> None:
    answers = [send(place_of_view) for _ in range(3)]

    assert [each.word for each in answers] == ["201", "201 replayed", "201 replayed"]
    assert len({each.body for each in answers}) == 1
    assert (scene.runs, Order.objects.count(), states()) == (1, 1, ["kept"])
    assert (record().lease_token, record().lease_expires_at) == (None, None)


@everywhere
def test_other_payload_under_a_kept_key_is_refused(place_of_view: str) -> None:
    send(place_of_view)

    assert send(place_of_view, amount=2).word == "422 key-reused"
    assert send(place_of_view).word == "201 replayed"


def in_no_transaction(place_of_view: str) -> bool:
    scene.deed = lambda request: (200, {"atomic": connection.in_atomic_block})
    return bool(send(place_of_view).json == {"atomic": False})


@everywhere
def test_view_runs_outside_of_any_transaction(place_of_view: str) -> None:
    assert in_no_transaction(place_of_view)


@pytest.mark.parametrize("place_of_view", OUTSIDE_OF_DJANGOS)
@pytest.mark.usefixtures("atomic_requests")
def test_view_runs_outside_of_any_transaction_under_atomic_requests(
    place_of_view: str,
) -> None:
    assert in_no_transaction(place_of_view)


@everywhere
def test_key_that_is_missing_is_asked_for(place_of_view: str) -> None:
    assert post(f"/{place_of_view}/").word == "400 key-missing"
    assert scene.runs == 0


@pytest.mark.parametrize("place_of_view", ["optional", "async-optional"])
def test_request_without_a_key_runs_each_time_and_so_do_its_steps(
    place_of_view: str,
) -> None:
    keys: list[str] = []

    def deed(request: Any) -> tuple[int, Any]:
        assert (request.idempotency.key, connection.in_atomic_block) == (None, False)
        request.idempotency.extend()
        request.idempotency.call("charge", keys.append)
        return 201, {"order": request.idempotency.write("order", order)}

    scene.deed = deed
    for _ in range(2):
        assert post(f"/{place_of_view}/").word == "201"

    assert len(set(keys)) == Order.objects.count() == 2
    assert not IdempotencyRecord.objects.exists()


# Copies in flight


def with_copy(place_of_view: str, **options: Any) -> Answer:
    """The answer to a copy that comes while the first request is running."""
    copies = []

    def deed(request: Any) -> tuple[int, Any]:
        copies.append(send(place_of_view, **options))
        return place(request)

    scene.deed = deed
    assert send(place_of_view).word == "201"
    return copies[0]


@everywhere
def test_copy_in_flight_is_told_when_the_lease_ends(place_of_view: str) -> None:
    copy = with_copy(place_of_view)

    assert copy.word == "409 in-flight"
    assert 55 <= int(copy.headers["Retry-After"]) <= 60
    assert Order.objects.count() == 1


def test_copy_with_another_payload_is_told_that_the_first_is_in_flight() -> None:
    assert with_copy("plain", amount=2).word == "409 in-flight"


def test_copy_waits_no_longer_than_its_policy_says() -> None:
    copies = []

    @idempotent(lease=LEASE, wait=timedelta(milliseconds=50))
    def view(request: HttpRequest) -> HttpResponse:
        copies.append(call(view, scene.key).word)
        return HttpResponse(status=201)

    assert call(view, scene.key).word == "201"
    assert copies == ["409 in-flight"]


def left_behind(place_of_view: str = "plain", **columns: Any) -> None:
    """The record as a killed owner leaves it; `columns` are deltas from now."""
    send(place_of_view)
    changes = {name: Now() + delta for name, delta in columns.items()}
    change(state="in_flight", **changes)


SOON, JUST_NOW = timedelta(seconds=10), timedelta(seconds=-1)


@everywhere
def test_claim_whose_lease_is_over_is_taken_over(place_of_view: str) -> None:
    """FR-013: nothing waits for the retention."""
    left_behind(place_of_view, lease_expires_at=JUST_NOW)

    assert words(place_of_view) == ["201", "201 replayed"]
    assert record().attempts == 2


@everywhere
def test_live_claim_is_left_alone(place_of_view: str) -> None:
    """FR-013: even if its retention is over."""
    left_behind(place_of_view, lease_expires_at=SOON, expires_at=JUST_NOW)

    assert send(place_of_view).word == "409 in-flight"
    assert Order.objects.count() == 1


def test_claim_whose_lease_and_retention_are_over_is_a_new_operation() -> None:
    left_behind(lease_expires_at=JUST_NOW, expires_at=JUST_NOW)
    step = {"name": "a", "kind": "call", "done": True, "result": None}
    change(attempts=4, effects={"steps": [step]})

    assert send().word == "201"
    assert (record().attempts, record().effects) == (1, {})


# Failures


def fail(request: Any) -> tuple[int, Any]:
    order()
    raise ZeroDivisionError


def refuse(request: Any) -> tuple[int, Any]:
    return 500, {}


def not_found(request: Any) -> tuple[int, Any]:
    raise Http404


def after_a_charge(deed: Deed) -> Deed:
    def with_charge(request: Any) -> tuple[int, Any] | None:
        request.idempotency.call("charge", lambda key: "ch_1")
        return deed(request)

    return with_charge


@everywhere
@pytest.mark.parametrize(
    ("deed", "error"),
    [
        pytest.param(fail, "builtins.ZeroDivisionError", id="raised"),
        pytest.param(refuse, "", id="returned 500"),
    ],
)
def test_failure_releases_the_key_at_once(
    deed: Any, error: str, place_of_view: str
) -> None:
    scene.deed = deed

    assert send(place_of_view).status == 500
    assert (record().state, record().last_error) == ("released", error)
    assert (record().lease_token, record().lease_expires_at) == (None, None)

    scene.deed = place
    assert words(place_of_view) == ["201", "201 replayed"]


@pytest.mark.parametrize("status", [405, 429, 503])
def test_answer_that_is_no_outcome_is_released(status: int) -> None:
    scene.deed = lambda request: (status, {})

    assert words() == [str(status)] * 2
    assert (record().state, record().attempts) == ("released", 2)


@pytest.mark.parametrize("status", [200, 302, 404])
def test_returned_outcome_is_kept(status: int) -> None:
    scene.deed = lambda request: (status, {})

    assert words() == [str(status), f"{status} replayed"]


@everywhere
@pytest.mark.parametrize("deed", [fail, refuse, not_found])
def test_failure_keeps_the_memory_of_its_steps(deed: Any, place_of_view: str) -> None:
    scene.deed = after_a_charge(deed)
    send(place_of_view)

    assert (record().state, remembered()) == ("released", [("charge", True)])


def test_what_was_written_outside_of_a_step_stays_written() -> None:
    """FR-029: such writes belong in `write()`."""
    scene.deed = fail
    words()

    assert Order.objects.count() == 2


@everywhere
def test_raised_refusal_leaves_no_record(place_of_view: str) -> None:
    scene.deed = not_found

    assert words(place_of_view) == ["404", "404"]
    assert not IdempotencyRecord.objects.exists()


def test_raised_refusal_of_a_second_try_leaves_the_record_of_the_first() -> None:
    for scene.deed in (fail, not_found):
        send()

    assert (record().state, record().attempts) == ("released", 2)


@everywhere
def test_other_payload_under_a_released_key_with_steps_is_refused(
    place_of_view: str,
) -> None:
    scene.deed = after_a_charge(fail)
    send(place_of_view)

    assert send(place_of_view, amount=2).word == "422 key-reused"
    assert remembered() == [("charge", True)]


@pytest.mark.parametrize(
    "place_of_view",
    # They would end the event loop of an async view.
    [each for each in EVERY_PLACEMENT if each not in ASYNC],
)
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_end_of_the_process_releases_the_key(
    error: type[BaseException], place_of_view: str
) -> None:
    def stop(request: Any) -> tuple[int, Any]:
        raise error

    scene.deed = stop
    with pytest.raises(error):
        send(place_of_view)

    assert (record().state, record().lease_token) == ("released", None)
    scene.deed = place
    assert send(place_of_view).word == "201"


def test_write_that_only_the_commit_refuses_releases_the_key() -> None:
    """A deferred constraint; the database has said that nothing was written."""

    def grant() -> None:
        Permission.objects.create(codename="x", name="x", content_type_id=2**31 - 1)

    scene.deed = lambda request: request.idempotency.write("permission", grant)
    assert send().status == 500
    assert (states(), remembered()) == (["released"], [])

    scene.deed = place
    assert send().word == "201"


# Kept errors


@needs_rest_framework
def test_kept_error_is_replayed_and_keeps_the_memory_of_its_steps() -> None:
    scene.deed = after_a_charge(not_found)

    assert words("keeps-errors") == ["404", "404 replayed"]
    assert (scene.runs, states(), remembered()) == (1, ["kept"], [("charge", True)])


@needs_rest_framework
def test_error_of_the_server_is_not_kept() -> None:
    scene.deed = fail

    assert words("keeps-errors") == ["500", "500"]
    assert scene.runs == 2


# Somebody else's transaction


def test_view_inside_a_transaction_is_refused_before_it_runs() -> None:
    """The claim would not be committed, and others would wait for it."""
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        call(leased(answer), scene.key)

    assert (scene.runs, states()) == (0, [])


@pytest.mark.parametrize(
    ("step", "arguments"),
    [("call", ["a", lambda key: order()]), ("write", ["a", order]), ("extend", [])],
    ids=["call", "write", "extend"],
)
def test_step_inside_a_transaction_of_the_view_is_refused(
    step: str, arguments: list[Any]
) -> None:
    def deed(request: Any) -> None:
        with transaction.atomic():
            order()
            getattr(request.idempotency, step)(*arguments)

    scene.deed = deed

    assert send().status == 500
    # Of `write` the end is refused, and undone with the transaction; a call is not made.
    assert (Order.objects.count(), states(), remembered()) == (0, ["released"], [])


@pytest.mark.parametrize(
    "place_of_view", [each for each in EVERY_PLACEMENT if each in INSIDE_OF_DJANGOS]
)
@pytest.mark.usefixtures("atomic_requests")
def test_placement_inside_of_djangos_transaction_is_refused_before_it_runs(
    place_of_view: str,
) -> None:
    """Trap T3."""
    assert send(place_of_view).status == 500
    assert (scene.runs, states()) == (0, [])


# Late owners


@everywhere
def test_late_owner_is_told_that_another_has_taken_over(place_of_view: str) -> None:
    """FR-014: it has lost its lease; its answer is not kept."""
    successors = []

    def deed(request: Any) -> tuple[int, Any]:
        successors.append(take_over(place_of_view))
        return 200, {"late": True}

    scene.deed = deed
    late = send(place_of_view)

    assert (late.word, successors[0].word) == ("409 in-flight", "201")
    assert send(place_of_view).body == successors[0].body


def test_late_owner_that_raises_releases_nothing() -> None:
    def deed(request: Any) -> tuple[int, Any]:
        take_over()
        raise ZeroDivisionError

    scene.deed = deed

    assert send().status == 500
    assert send().word == "201 replayed"
