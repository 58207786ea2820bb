"""Compares what clients were told with what the database and the provider have.

Nothing here is asked of the package or of the shop.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.faults import counts
from tests.faults.clients import OTHER, USER, History, key_of
from tests.faults.conditions import IDLE_SECONDS, LONGEST_LEASE, TENANTS
from tests.faults.databases import EVENTS, ORDERS, RECORDS
from tests.faults.plans import ATOMIC, FORGED, OTHER_USER, PURGE, WEBHOOKS
from tests.faults.stage import Stage
from tests.support.client import Answer

SLACK_SECONDS = 5.0
"""For the database to notice that something is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    rule: str
    detail: str


@dataclass(frozen=True, slots=True)
class Record:
    state: str
    body: bytes | None


class Truth:
    """What there is: orders, charges, records and events."""

    def __init__(self, stage: Stage) -> None:
        self.orders: dict[int, list[int]] = defaultdict(list)
        self.charges: dict[int, list[str]] = defaultdict(list)
        self.records: dict[str, list[Record]] = defaultdict(list)
        """By key; to whom one belongs is shown by its answer."""
        self.events: dict[int, str] = {}
        listing = stage.provider_listing()
        self.refusals = listing.refusals
        self.executions = stage.watcher.executions()
        self.struck_between = stage.watcher.struck_between
        for charge in listing.charges:
            self.charges[charge.operation].append(charge.id)
        self.references: dict[int, str] = {}
        for pk, operation, reference in stage.query(
            f"SELECT id, amount, reference FROM {ORDERS} ORDER BY id"  # noqa: S608
        ):
            self.orders[operation].append(pk)
            self.references[operation] = reference
        for key, state, body in stage.query(
            f'SELECT "key", state, response_body FROM {RECORDS}'  # noqa: S608
        ):
            record = Record(state, None if body is None else bytes(body))
            self.records[key].append(record)
        for event_id, state in stage.query(
            f"SELECT event_id, state FROM {EVENTS} WHERE event_id LIKE 'evt%%'"  # noqa: S608
        ):
            self.events[int(event_id.removeprefix("evt_"))] = state


def violations_of(history: History, truth: Truth) -> list[Violation]:
    """Return every promise that one run has seen broken."""
    return [*_violations_of(history, truth)]


def _violations_of(history: History, truth: Truth) -> Iterator[Violation]:
    plan = history.plan
    for who, operation in history.unanswered:
        seconds = plan.deadline_seconds
        yield Violation(
            rule="stuck",
            detail=f"{who} got no answer for {operation} in {seconds:.0f} s",
        )
    by_operation: dict[int, list[tuple[str, Answer]]] = defaultdict(list)
    for who, operation, answer in history.answers:
        by_operation[operation].append((who, answer))
    for operation in (plan.run, OTHER_USER + plan.run):
        answers = by_operation[operation]
        yield from _effects(operation, truth, is_answered=bool(answers))
        if plan.entry in WEBHOOKS:
            yield from _event(operation, answers, truth)
        else:
            yield from _answers(operation, answers, truth)
            yield from _kept(history, operation, answers, truth)
    if plan.entry in ATOMIC:
        yield from _alone(history, truth)
    forged = FORGED + plan.run
    if by_operation[forged] or truth.orders[forged] or forged in truth.events:
        yield Violation(rule="forged", detail="a delivery that nobody signed was taken")


def _effects(operation: int, truth: Truth, *, is_answered: bool) -> Iterator[Violation]:
    for name, found in (
        ("effect", truth.orders[operation]),
        ("charge", truth.charges[operation]),
    ):
        if len(found) > 1:
            yield Violation(rule=f"more than one {name}", detail=f"{found}")
        if is_answered and not found:
            yield Violation(rule=f"acknowledged without {name}", detail="none is there")
    if operation in truth.refusals:
        yield Violation(rule="derived key", detail="it was used for two operations")


def _alone(history: History, truth: Truth) -> Iterator[Violation]:
    """While a claim is held nobody else begins, and nobody is told of an error.

    Where nothing but the provider or the purge was struck meanwhile: whoever loses a
    transaction otherwise may go on with the work all the same, until the end.
    """
    struck = truth.struck_between(history.started, history.ended)
    acts = {line.get("act") for line in struck if line.get("target") != PURGE}
    if not acts <= {"provider", "leave", "record", None}:
        return
    for operation in (history.plan.run, OTHER_USER + history.plan.run):
        for one, next_one in pairwise(truth.executions.get(operation, [])):
            # After longer, the database has ended the transaction of a slow machine.
            if next_one[0] < min(one[1], one[0] + IDLE_SECONDS):
                yield Violation(rule="begun by two", detail=f"{one} and {next_one}")
    if not any(fault.target != PURGE for fault in history.plan.faults):
        for moment in history.moments:
            if moment.got.startswith("500"):
                yield Violation(rule="error without a fault", detail=moment.who)


def _event(
    operation: int, answers: Sequence[tuple[str, Answer]], truth: Truth
) -> Iterator[Violation]:
    for who, answer in answers:
        if answer.status != 200:
            yield Violation(rule="refused", detail=f"{who} was told {answer.word}")
    tenant = f"tenant {operation % TENANTS} "
    if (reference := truth.references.get(operation)) and tenant not in reference:
        yield Violation(rule="another tenant's handler", detail=reference)
    if answers and truth.events.get(operation) != "processed":
        yield Violation(
            rule="acknowledged and lost",
            detail=f"the event is {truth.events.get(operation, 'nowhere')}",
        )


def _answers(
    operation: int, answers: Sequence[tuple[str, Answer]], truth: Truth
) -> Iterator[Violation]:
    user = OTHER if operation > OTHER_USER else USER
    for who, answer in answers:
        if answer.status != 201:
            yield Violation(rule="refused", detail=f"{who} was told {answer.word}")
            continue
        told = answer.json
        if (told["operation"], told["user"]) != (operation, user):
            yield Violation(
                rule="answer to another principal",
                detail=f"{who} (user {user}) got that of user {told['user']}",
            )
        if told["order"] not in truth.orders[told["operation"]]:
            yield Violation(rule="acknowledged, not committed", detail=f"{who}: {told}")
        if told["charge"] not in truth.charges[told["operation"]]:
            yield Violation(rule="acknowledged, not charged", detail=f"{who}: {told}")
    if len(told_bodies := {answer.body for _, answer in answers}) > 1:
        bodies = sorted(body.decode() for body in told_bodies)
        yield Violation(rule="answers differ", detail=json.dumps(bodies))


def _kept(
    history: History,
    operation: int,
    answers: Sequence[tuple[str, Answer]],
    truth: Truth,
) -> Iterator[Violation]:
    """What was acknowledged is what a repeat would get."""
    if not answers:
        return
    records = truth.records[key_of(history.plan.entry, history.plan.run)]
    bodies = {answer.body for _, answer in answers}
    # A task's result is kept as such; its answer was made of it by the shop.
    is_task = "task" in history.plan.entry
    mine = [each for each in records if is_task or each.body in bodies]
    if not any(each.state == "kept" for each in mine):
        yield Violation(rule="acknowledged, not kept", detail=f"there are {records}")


def _seen(rule: str, rows: Iterable[tuple[object, ...]]) -> Iterator[Violation]:
    for row in rows:
        yield Violation(rule=rule, detail=" ".join(str(each) for each in row))


def _records(stage: Stage, rule: str, condition: str) -> Iterator[Violation]:
    which = f'SELECT scope, "key" FROM {RECORDS} WHERE {condition}'  # noqa: S608
    yield from _seen(rule, stage.query(which))


def never_to_be_seen(stage: Stage) -> Iterator[Violation]:
    """Yield what must not be in the database at any moment."""
    unowned = "state = 'in_flight' AND lease_token IS NULL"
    yield from _records(stage, "claim without an owner", unowned)
    longest = stage.database.later(LONGEST_LEASE.total_seconds())
    yield from _records(stage, "lease too long", f"lease_expires_at > {longest}")
    idle = stage.database.idle(IDLE_SECONDS + SLACK_SECONDS)
    yield from _seen("transaction too long", idle)


def leftovers(stage: Stage) -> Iterator[Violation]:
    """Yield what nothing in the shop should leave behind when all is quiet."""
    if left := stage.watcher.told("purge left")[-1]:
        yield Violation(rule="not purged", detail=f"{left} expired rows")
    if stage.counts and (number := counts.in_requests(stage.database)):
        detail = f"{number} transactions have written counts as well"
        yield Violation(rule="counted in a request", detail=detail)
    for operation in stage.watcher.told("cut"):
        detail = f"that of {operation}, by a client that left"
        yield Violation(rule="call cut", detail=detail)
    yield from _seen("open transaction", stage.database.open(3))
    lease = f"lease_expires_at > {stage.database.now}"
    yield from _records(stage, "open lease", lease)


def acknowledged_events(histories: Iterable[History]) -> set[int]:
    return {
        operation
        for history in histories
        if history.plan.entry in WEBHOOKS
        for _, operation, answer in history.answers
        if answer.status == 200
    }
