"""Views in the leased shape: the claim is committed first, and no transaction is open."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import connection, transaction
from django.db.models.functions import Now
from django.http import Http404, HttpRequest, HttpResponse

from django_idempotency.decorators import idempotent
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
from tests.integration.leased.views import EVERY_PLACEMENT, HAS_REST_FRAMEWORK
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.urls("tests.integration.leased.views"),
    pytest.mark.usefixtures("db"),
]

everywhere = pytest.mark.parametrize("place_of_view", EVERY_PLACEMENT)
INSIDE_OF_DJANGOS = ["method", "api-view"]
"""Placements that can't tell Django to open no transaction under ATOMIC_REQUESTS."""

OUTSIDE_OF_DJANGOS = [each for each in EVERY_PLACEMENT if each not in INSIDE_OF_DJANGOS]
needs_rest_framework = pytest.mark.skipif(
    not HAS_REST_FRAMEWORK, reason="REST framework is an extra"
)


def send(path: str, key: str, **options: Any) -> Answer:
    return post(f"/{path}/", key, **options)


def words(path: str, key: str, count: int = 2) -> list[str]:
    return [send(path, key).word for _ in range(count)]


# First calls and repeats


@everywhere
def test_first_call_runs_and_repeats_are_replayed(place_of_view: str) -> None:
    assert words(place_of_view, new_key(), 3) == ["201", "201 replayed", "201 replayed"]
    assert (scene.runs, Order.objects.count(), states()) == (1, 1, ["kept"])


@everywhere
def test_replay_has_the_bytes_of_the_first_answer(place_of_view: str) -> None:
    key = new_key()

    assert send(place_of_view, key).body == send(place_of_view, key).body


@everywhere
def test_kept_record_has_no_lease_any_more(place_of_view: str) -> None:
    send(place_of_view, new_key())

    assert (record().lease_token, record().lease_expires_at) == (None, None)


@everywhere
def test_other_keys_are_other_operations(place_of_view: str) -> None:
    for _ in range(2):
        assert send(place_of_view, new_key()).word == "201"

    assert Order.objects.count() == 2


@everywhere
def test_other_payload_under_a_kept_key_is_refused(place_of_view: str) -> None:
    key = new_key()
    send(place_of_view, key)

    assert send(place_of_view, key, amount=2).word == "422 key-reused"
    assert send(place_of_view, key).word == "201 replayed"


@everywhere
def test_view_runs_outside_of_any_transaction(place_of_view: str) -> None:
    scene.deed = lambda request: (200, {"atomic": connection.in_atomic_block})

    assert send(place_of_view, new_key()).json == {"atomic": False}


@pytest.mark.parametrize("place_of_view", OUTSIDE_OF_DJANGOS)
@pytest.mark.usefixtures("atomic_requests")
def test_view_runs_outside_of_any_transaction_under_atomic_requests(
    place_of_view: str,
) -> None:
    scene.deed = lambda request: (200, {"atomic": connection.in_atomic_block})

    assert send(place_of_view, new_key()).json == {"atomic": False}


@everywhere
def test_key_that_is_missing_is_asked_for(place_of_view: str) -> None:
    assert post(f"/{place_of_view}/").word == "400 key-missing"
    assert scene.runs == 0


def test_request_without_a_key_runs_outside_of_any_transaction() -> None:
    scene.deed = lambda request: (
        200,
        {"key": request.idempotency.key, "atomic": connection.in_atomic_block},
    )

    assert post("/optional/").json == {"key": None, "atomic": False}
    assert not IdempotencyRecord.objects.exists()


def test_request_without_a_key_runs_each_time() -> None:
    assert [post("/optional/").word for _ in range(2)] == ["201", "201"]
    assert Order.objects.count() == 2


def test_steps_of_a_request_without_a_key_simply_run() -> None:
    keys: list[str] = []

    def deed(request: Any) -> tuple[int, Any]:
        request.idempotency.extend()
        request.idempotency.call("charge", keys.append)
        return 201, {"order": request.idempotency.write("order", order)}

    scene.deed = deed
    for _ in range(2):
        assert post("/optional/").word == "201"

    assert len(set(keys)) == Order.objects.count() == 2


# Copies in flight


@everywhere
def test_copy_in_flight_is_told_when_the_lease_ends(place_of_view: str) -> None:
    key = new_key()
    copies = []

    def deed(request: Any) -> tuple[int, Any]:
        copies.append(send(place_of_view, key))
        return place(request)

    scene.deed = deed

    assert send(place_of_view, key).word == "201"
    assert [copy.word for copy in copies] == ["409 in-flight"]
    assert 55 <= int(copies[0].headers["Retry-After"]) <= 60
    assert Order.objects.count() == 1


def test_copy_with_another_payload_is_told_that_the_first_is_in_flight() -> None:
    key = new_key()
    copies = []

    def deed(request: Any) -> tuple[int, Any]:
        copies.append(send("plain", key, amount=2).word)
        return place(request)

    scene.deed = deed
    send("plain", key)

    assert copies == ["409 in-flight"]


def test_copy_waits_no_longer_than_its_policy_says(settings: Any) -> None:
    """It looks again and again, and holds no connection meanwhile."""
    pauses = []

    @idempotent(lease=LEASE, wait=timedelta(milliseconds=200))
    def view(request: HttpRequest) -> HttpResponse:
        pauses.append(call(view, key))
        return HttpResponse(status=201)

    key = new_key()
    assert call(view, key).word == "201"
    assert [answer.word for answer in pauses] == ["409 in-flight"]


@everywhere
def test_claim_whose_lease_is_over_is_taken_over(place_of_view: str) -> None:
    """FR-013: nothing waits for the retention."""
    key = new_key()
    send(place_of_view, key)
    change(state="in_flight", lease_expires_at=Now() - timedelta(seconds=1))

    assert words(place_of_view, key) == ["201", "201 replayed"]
    assert record().attempts == 2


@everywhere
def test_live_claim_is_left_alone(place_of_view: str) -> None:
    """FR-013."""
    key = new_key()
    send(place_of_view, key)
    change(state="in_flight", lease_expires_at=Now() + timedelta(seconds=10))

    assert send(place_of_view, key).word == "409 in-flight"
    assert Order.objects.count() == 1


def test_live_claim_outlives_its_retention() -> None:
    key = new_key()
    send("plain", key)
    change(
        state="in_flight",
        lease_expires_at=Now() + timedelta(seconds=10),
        expires_at=Now() - timedelta(seconds=1),
    )
    purge = Purge.of_records(using="default", for_at_least=timedelta(0))

    assert sum(purge.batches(10)) == 0
    assert send("plain", key).word == "409 in-flight"


def test_claim_whose_lease_and_retention_are_over_is_a_new_operation() -> None:
    key = new_key()
    send("plain", key)
    change(
        state="in_flight",
        lease_expires_at=Now() - timedelta(seconds=1),
        expires_at=Now() - timedelta(seconds=1),
        attempts=4,
        effects={
            "steps": [{"name": "a", "kind": "call", "done": True, "result": None}]
        },
    )

    assert send("plain", key).word == "201"
    assert (record().attempts, record().effects) == (1, {})


# Failures


def fail(request: Any) -> tuple[int, Any]:
    order()
    raise ZeroDivisionError


def refuse(request: Any) -> tuple[int, Any]:
    return 500, {}


def not_found(request: Any) -> tuple[int, Any]:
    raise Http404


def after_a_charge(
    deed: Callable[[Any], tuple[int, Any]],
) -> Callable[[Any], tuple[int, Any]]:
    def with_charge(request: Any) -> tuple[int, Any]:
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
    key = new_key()
    scene.deed = deed

    assert send(place_of_view, key).status == 500
    assert (record().state, record().last_error) == ("released", error)
    assert (record().lease_token, record().lease_expires_at) == (None, None)

    scene.deed = place
    assert words(place_of_view, key) == ["201", "201 replayed"]


@pytest.mark.parametrize("status", [405, 406, 408, 413, 415, 425, 429, 500, 503])
def test_answer_that_is_no_outcome_is_released(status: int) -> None:
    key = new_key()
    scene.deed = lambda request: (status, {})

    assert words("plain", key) == [str(status)] * 2
    assert (record().state, record().attempts) == ("released", 2)


@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 422])
def test_returned_outcome_is_kept(status: int) -> None:
    scene.deed = lambda request: (status, {})

    assert words("plain", new_key()) == [str(status), f"{status} replayed"]


@everywhere
@pytest.mark.parametrize("deed", [fail, refuse, not_found])
def test_failure_keeps_the_memory_of_its_steps(deed: Any, place_of_view: str) -> None:
    scene.deed = after_a_charge(deed)
    send(place_of_view, new_key())

    assert (record().state, remembered()) == ("released", [("charge", True)])


def test_what_was_written_outside_of_a_step_stays_written() -> None:
    """FR-029: such writes belong in `write()`."""
    key = new_key()
    scene.deed = fail
    words("plain", key)

    assert Order.objects.count() == 2


@everywhere
def test_raised_refusal_leaves_no_record(place_of_view: str) -> None:
    scene.deed = not_found

    assert words(place_of_view, new_key()) == ["404", "404"]
    assert not IdempotencyRecord.objects.exists()


def test_raised_refusal_of_a_second_try_leaves_the_record_of_the_first() -> None:
    key = new_key()
    scene.deed = fail
    send("plain", key)

    def denied(request: Any) -> tuple[int, Any]:
        raise PermissionDenied

    scene.deed = denied
    assert send("plain", key).word == "403"
    assert (record().state, record().attempts) == ("released", 2)


def test_redirect_to_the_login_is_never_kept(settings: Any) -> None:
    settings.LOGIN_URL = "/login/"

    @idempotent(lease=LEASE)
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=302, headers={"Location": "/login/?next=/"})

    assert call(view, new_key()).word == "302"
    assert not IdempotencyRecord.objects.exists()


@everywhere
def test_other_payload_under_a_released_key_with_steps_is_refused(
    place_of_view: str,
) -> None:
    key = new_key()
    scene.deed = after_a_charge(fail)
    send(place_of_view, key)

    assert send(place_of_view, key, amount=2).word == "422 key-reused"
    assert remembered() == [("charge", True)]


@everywhere
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_end_of_the_process_releases_the_key(
    error: type[BaseException], place_of_view: str
) -> None:
    key = new_key()

    def stop(request: Any) -> tuple[int, Any]:
        raise error

    scene.deed = stop
    with pytest.raises(error):
        send(place_of_view, key)

    assert (record().state, record().lease_token) == ("released", None)
    scene.deed = place
    assert send(place_of_view, key).word == "201"


def test_view_that_returns_nothing_releases_the_key() -> None:
    @idempotent(lease=LEASE)
    def view(request: HttpRequest) -> Any:
        return None

    with pytest.raises(AttributeError):
        call(view, new_key())
    assert states() == ["released"]


def test_write_that_only_the_commit_refuses_releases_the_key() -> None:
    """A deferred constraint; the database has said that nothing was written."""
    key = new_key()

    def grant() -> None:
        Permission.objects.create(codename="x", name="x", content_type_id=2**31 - 1)

    def deed(request: Any) -> tuple[int, Any]:
        request.idempotency.write("permission", grant)
        return 201, {}

    scene.deed = deed
    assert send("plain", key).status == 500
    assert (states(), remembered()) == (["released"], [])

    scene.deed = place
    assert send("plain", key).word == "201"


# Kept errors


@needs_rest_framework
def test_kept_error_is_replayed() -> None:
    scene.deed = not_found

    assert words("keeps-errors", new_key()) == ["404", "404 replayed"]
    assert (scene.runs, states()) == (1, ["kept"])


@needs_rest_framework
def test_kept_error_keeps_the_memory_of_its_steps() -> None:
    scene.deed = after_a_charge(not_found)

    assert words("keeps-errors", new_key()) == ["404", "404 replayed"]
    assert remembered() == [("charge", True)]


@needs_rest_framework
def test_error_of_the_server_is_not_kept() -> None:
    scene.deed = fail

    assert words("keeps-errors", new_key()) == ["500", "500"]
    assert scene.runs == 2


def test_kept_errors_need_rest_framework() -> None:
    view = idempotent(lease=LEASE, keep_errors=True)(lambda request: HttpResponse())

    with pytest.raises(ImproperlyConfigured, match="keep_errors=True"):
        call(view, new_key())


# Somebody else's transaction


def test_view_inside_a_transaction_is_refused_before_it_runs() -> None:
    """The claim would not be committed, and others would wait for it."""
    key = new_key()
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        call(idempotent(lease=LEASE)(lambda request: HttpResponse()), key)

    assert not IdempotencyRecord.objects.exists()


def test_transaction_around_the_view_is_an_error_of_the_server() -> None:
    assert send("in-a-transaction", new_key()).status == 500
    assert (scene.runs, states()) == (0, [])


@pytest.mark.parametrize("step", ["call", "write"])
def test_step_inside_a_transaction_of_the_view_is_refused(step: str) -> None:
    made = []

    def deed(request: Any) -> tuple[int, Any]:
        with transaction.atomic():
            order()
            getattr(request.idempotency, step)("a", lambda *key: made.append(key))
        return 201, {}

    scene.deed = deed

    assert send("plain", new_key()).status == 500
    # Of `write` the end is refused, and undone with the transaction; a call is not made.
    assert (Order.objects.count(), states(), made) == (0, ["released"], [])
    assert remembered() == []


def test_extension_inside_a_transaction_of_the_view_is_refused() -> None:
    def deed(request: Any) -> tuple[int, Any]:
        with transaction.atomic():
            request.idempotency.extend()
        return 201, {}

    scene.deed = deed

    assert send("plain", new_key()).status == 500


@pytest.mark.parametrize(
    "place_of_view", [each for each in EVERY_PLACEMENT if each in INSIDE_OF_DJANGOS]
)
@pytest.mark.usefixtures("atomic_requests")
def test_placement_inside_of_djangos_transaction_is_refused_before_it_runs(
    place_of_view: str,
) -> None:
    """Trap T3."""
    answer = send(place_of_view, new_key())

    assert (answer.status, scene.runs, states()) == (500, 0, [])


# Whose lease decides


LONG, SHORT = timedelta(seconds=60), timedelta(seconds=1)


@pytest.mark.parametrize(
    ("owner", "other"), [(LONG, SHORT), (SHORT, LONG)], ids=["long", "short"]
)
def test_stored_lease_decides_whoever_asks(owner: timedelta, other: timedelta) -> None:
    """FR-016: two views with other leases share one scope."""
    key = new_key()
    answers = []

    @idempotent(lease=other, wait=timedelta(0))
    def meets(request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=202)

    @idempotent(lease=owner, wait=timedelta(0))
    def owns(request: HttpRequest) -> HttpResponse:
        left = record().lease_expires_at
        assert left is not None
        answers.append(call(meets, key))
        let_the_lease_end()
        answers.append(call(meets, key))
        return HttpResponse(status=201)

    last = call(owns, key)

    assert [answer.word for answer in answers] == ["409 in-flight", "202"]
    assert int(answers[0].headers["Retry-After"]) <= owner.total_seconds()
    assert last.word == "409 in-flight"  # FR-014: its answer is not the one that counts


@everywhere
def test_late_owner_is_told_that_another_has_taken_over(place_of_view: str) -> None:
    """FR-014: it has lost its lease; its answer is not kept."""
    key = new_key()
    successors = []

    def deed(request: Any) -> tuple[int, Any]:
        successors.append(take_over(lambda: send(place_of_view, key)))
        return 200, {"late": True}

    scene.deed = deed
    late = send(place_of_view, key)

    assert (late.word, successors[0].word) == ("409 in-flight", "201")
    assert send(place_of_view, key).body == successors[0].body


def test_late_owner_that_raises_releases_nothing() -> None:
    key = new_key()

    def deed(request: Any) -> tuple[int, Any]:
        take_over(lambda: send("plain", key))
        raise ZeroDivisionError

    scene.deed = deed

    assert send("plain", key).status == 500
    assert send("plain", key).word == "201 replayed"
