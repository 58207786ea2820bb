"""Copies that reach all nodes of a cluster at the same moment are one execution."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from django.db.models.functions import Now

from django_idempotency.engine.claiming import Claiming
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.store import statements
from django_idempotency.store.dialects.galera import Galera
from django_idempotency.webhooks.inbox import Step, process_next
from tests.concurrency.galera.clients import (
    at_once,
    clients,
    execute,
    one_order_each,
    order_counts,
)
from tests.concurrency.galera.shop import SENDS, SHAPES, scene
from tests.support import galera
from tests.support.client import Answer, new_key, post
from tests.support.threads import TIMEOUT

pytestmark = [
    pytest.mark.galera,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.concurrency.galera.shop"),
]

KEYS, COPIES = 40, 16
FEW_KEYS = 10
EVENTS = 120


@pytest.fixture(autouse=True)
def _fresh_scene() -> None:
    scene.reset()


def session_settings() -> tuple[tuple[Any, ...], ...]:
    return execute(
        "SHOW SESSION VARIABLES WHERE variable_name IN ('lock_wait_timeout',"
        " 'innodb_lock_wait_timeout', 'max_statement_time')"
        " OR variable_name LIKE 'wsrep%'"
    )


@dataclass
class Storm:
    """What has come of copies of many keys."""

    keys: list[str]
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    changed: list[Any] = field(default_factory=list)
    """The settings of sessions, where they aren't those that a new one has."""

    @property
    def statuses(self) -> Counter[int]:
        return Counter(each.status for key in self.keys for each in self.answers[key])

    @property
    def bodies(self) -> Counter[int]:
        """How many different answers there are to a key, and to how many keys."""
        different = ({each.body for each in self.answers[key]} for key in self.keys)
        return Counter(map(len, different))

    @property
    def begun(self) -> Counter[int]:
        """How often the work of a key has begun, and of how many keys."""
        return Counter(scene.begun[key] for key in self.keys)


def storm(
    shape: str,
    keys: int = KEYS,
    *,
    prepare: Callable[[Storm], None] = lambda found: None,
    **surroundings: Any,
) -> Storm:
    found = Storm([new_key() for _ in range(keys)])
    prepare(found)
    with (
        clients(COPIES, **surroundings) as crew,
        clients(**surroundings) as others,
    ):
        for key in found.keys:
            found.answers[key] = at_once(crew, partial(SENDS[shape], key))
        new = [each.do(session_settings) for each in others]
        for each in crew:
            if (settings := each.do(session_settings)) != new[each.node]:
                found.changed.append(settings)
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_copies_on_all_nodes_are_one_execution_of_each_key(shape: str) -> None:
    """Note [What another node can't see]"""
    found = storm(shape)

    assert found.statuses.keys() <= {200, 201}
    assert found.bodies == {1: KEYS}
    assert order_counts() == one_order_each(found.keys)
    assert found.begun == {1: KEYS}
    assert all(len(charges) == 1 for charges in scene.charges.values())
    assert found.changed == []


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "surroundings",
    [{"nodes": 2}, {"isolation": "repeatable read"}],
    ids=["two nodes", "repeatable read"],
)
def test_copies_are_one_execution_elsewhere(
    shape: str, surroundings: dict[str, Any]
) -> None:
    found = storm(shape, FEW_KEYS, **surroundings)

    assert found.statuses.keys() <= {200, 201}
    assert found.bodies == {1: FEW_KEYS}
    assert order_counts() == one_order_each(found.keys)
    assert found.begun == {1: FEW_KEYS}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("before", ["released", "expired"])
def test_copies_on_all_nodes_renew_a_row_once(shape: str, before: str) -> None:
    def leave_rows(found: Storm) -> None:
        for key in found.keys:
            SENDS[shape](key)
        now = Now()
        if before == "expired":
            IdempotencyRecord.objects.update(expires_at=now)
            ProcessedEvent.objects.update(expires_at=now)
        else:
            IdempotencyRecord.objects.update(state="released")
            ProcessedEvent.objects.update(state="failed")

    found = storm(shape, FEW_KEYS, prepare=leave_rows)

    assert found.statuses.keys() <= {200, 201}
    assert found.bodies == {1: FEW_KEYS}
    assert found.begun == {2: FEW_KEYS}


def test_views_that_fail_on_one_node_fail_nowhere_else() -> None:
    scene.failing = {0}
    keys = [new_key() for _ in range(30)]
    with clients(COPIES) as crew:
        answers = [at_once(crew, partial(SENDS["atomic"], key)) for key in keys]
    failed = Counter(
        each.node
        for of_key in answers
        for each, answer in zip(crew, of_key, strict=True)
        if answer.status != 201
    )

    assert failed.keys() == {0}
    assert order_counts() == one_order_each(keys)


def test_the_same_under_several_keys_is_one_execution_on_all_nodes() -> None:
    def click(number: int) -> str:
        return post("/with-intent/", new_key(), amount=number).word

    with clients(COPIES) as crew:
        words = [at_once(crew, partial(click, number)) for number in range(FEW_KEYS)]

    assert [Counter(each) for each in words] == [
        {"201": 1, "409 possible-duplicate": COPIES - 1}
    ] * FEW_KEYS
    assert [*scene.begun.values()] == [1] * FEW_KEYS


def test_sessions_are_left_as_they_were() -> None:
    """Note [Statements that Galera tries again]: by those that commit themselves."""
    found = storm("inbox")

    assert found.statuses == {200: KEYS * COPIES}
    assert found.changed == []


def test_workers_on_all_nodes_handle_each_event_once() -> None:
    keys = [new_key() for _ in range(EVENTS)]
    for key in keys:
        SENDS["inbox"](key)

    def work() -> Counter[Step]:
        steps: Counter[Step] = Counter()
        while ProcessedEvent.objects.filter(state="received").exists():
            steps[process_next()] += 1
        return steps

    with clients(2 * galera.SIZE) as crew:
        steps = sum(at_once(crew, work), Counter[Step]())

    assert steps.keys() <= {Step.PROCESSED, Step.TAKEN, Step.NOTHING_DUE}
    assert steps[Step.PROCESSED] == EVENTS
    assert scene.begun == dict.fromkeys(keys, 1)
    assert order_counts() == one_order_each(keys)
    assert {*ProcessedEvent.objects.values_list("attempts", flat=True)} == {1}


def words_of_owner_and_copies(key: str) -> tuple[str, Counter[str]]:
    """Let an owner go through many steps, and copies be sent away on other nodes."""
    entered, is_over = threading.Event(), threading.Event()
    scene.acts.append(entered.set)
    send = SENDS["in-many-steps"]

    def ask() -> Counter[str]:
        words: Counter[str] = Counter()
        while not is_over.is_set():
            words[send(key).word] += 1
        return words

    with clients() as (owner, *others):
        leading = owner.begin(partial(send, key))
        assert entered.wait(TIMEOUT)
        asking = [each.begin(ask) for each in others]
        word = leading.result(TIMEOUT).word
        is_over.set()
        return word, sum((each.result(TIMEOUT) for each in asking), Counter[str]())


def test_who_is_sent_away_on_other_nodes_does_not_disturb_the_owner() -> None:
    """A note on the row could be certified before what its owner writes."""
    key = new_key()

    owner, copies = words_of_owner_and_copies(key)

    assert (owner, scene.begun[key]) == ("201", 1)
    assert copies["409 in-flight"] > 0
    assert copies.keys() <= {"409 in-flight", "201 replayed"}


# What these would show if something were missing


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Any], None]]:
    """Take a part of the dialect away."""
    caches = (statements.record_statements, statements.event_statements)

    def replace(name: str, by: Any) -> None:
        monkeypatch.setattr(Galera, name, by)
        for each in caches:
            each.cache_clear()

    yield replace
    monkeypatch.undo()
    for each in caches:
        each.cache_clear()


def plain(dialect: Galera, statement: str) -> str:
    return statement


def test_control_claims_that_are_not_streamed_let_each_node_begin(
    without: Callable[[str, Any], None],
) -> None:
    without("streamed", plain)

    found = storm("atomic", FEW_KEYS)

    # The losers look again.
    assert found.statuses == {201: FEW_KEYS * COPIES}
    assert max(found.begun) > 1


def test_control_losers_that_do_not_look_again_get_errors(
    without: Callable[[str, Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without("streamed", plain)
    monkeypatch.setattr(Claiming, "_after_conflict", lambda claiming, error: None)

    assert storm("atomic", FEW_KEYS).statuses[500] > 0


def test_control_statements_that_are_tried_again_leave_their_limits(
    without: Callable[[str, Any], None],
) -> None:
    without("first_limit", "")

    assert storm("inbox").changed


def test_control_notes_on_the_rows_of_owners_disturb_them(
    without: Callable[[str, Any], None],
) -> None:
    without("notes_in_flight", True)

    assert words_of_owner_and_copies(new_key())[0] == "500"


def test_control_without_protection_each_copy_is_an_execution() -> None:
    found = storm("unprotected", 1)

    assert found.begun == {COPIES: 1}
    assert [sum(each.values()) for each in order_counts()] == [COPIES] * galera.SIZE
