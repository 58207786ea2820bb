"""Clients that behave as real ones do: they give up waiting, and they try again."""

import http.client
import json
import random
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from select import select
from typing import Any

from tests.faults.conditions import LONGEST_PAUSE_SECONDS
from tests.faults.plans import FORGED, HELD, OTHER_USER, REQUEST, WEBHOOKS, Fault, Plan
from tests.faults.stage import Stage
from tests.support.client import Answer, ask, connected, exchange, received
from tests.support.deliveries import stripe

USER, OTHER = 1, 2
"""Customers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What somebody got, and when."""

    time: float
    seconds: float
    who: str
    got: str


@dataclass(slots=True)
class History:
    """Everything that the clients of one run have seen."""

    plan: Plan
    started: float = field(default_factory=time.time)
    ended: float = 0
    moments: list[Moment] = field(default_factory=list)
    answers: list[tuple[str, int, Answer]] = field(default_factory=list)
    """Final ones, with who got them and for which operation."""
    longest_wait: float = 0
    """For how many seconds somebody tried until the answer came."""
    held: list[tuple[str, int]] = field(default_factory=list)
    """Who was told that nobody knows, about which operation."""
    unanswered: list[tuple[str, int]] = field(default_factory=list)
    """Who has tried until the deadline, to which operation."""

    def operations_held(self) -> set[int]:
        return {operation for _, operation in self.held}

    def is_answered(self, operation: int) -> bool:
        return any(each == operation for _, each, _ in self.answers)

    def told(self) -> list[dict[str, Any]]:
        moments = sorted(self.moments, key=lambda moment: moment.time)
        return [asdict(moment) for moment in moments]


def key_of(entry: str, run: int) -> str:
    """Return the key that the clients of a run send."""
    return f"task:{run}" if "task" in entry else f"key-{run}"


Request = tuple[bytes, dict[str, str]]
"""A body and headers."""


def request(
    entry: str, run: int, *, operation: int, user: int, forged: bool = False
) -> Request:
    """Return what is sent by this way in; of one run everything has one key."""
    if entry in WEBHOOKS:
        event = f"evt_{operation}"
        sent = stripe(event, secret="whsec_wrong") if forged else stripe(event)  # noqa: S106
        return sent.body, {**sent.headers, "X-Operation": str(operation)}
    return b'{"amount": 1}', {
        "Idempotency-Key": key_of(entry, run),
        "X-Operation": str(operation),
        "X-User": str(user),
    }


def post(
    address: str, entry: str, body: bytes, headers: Mapping[str, str], patience: float
) -> Answer:
    """Send a request to the shop.

    Raises:
        TimeoutError: if it does not answer in time.
        OSError, http.client.HTTPException: if the server dies before it answers.
    """
    with closing(connected(address, patience)) as connection:
        return exchange(connection, f"/{entry}/", body, headers)


def play(stage: Stage, plan: Plan) -> History:
    """Let one operation be asked for, with its faults, copies and repeats."""
    run = _Run(stage, History(plan))
    run.play()
    return run.history


def ask_again(
    stage: Stage,
    history: History,
    who: str,
    operation: int,
    *,
    fault: Fault | None = None,
) -> None:
    """Send one of a run's requests once more, until it is answered; first so hurt."""
    user = OTHER if operation > OTHER_USER else USER
    _Run(stage, history).until_answered(who, operation, user, first=fault)


class _Run:
    def __init__(self, stage: Stage, history: History) -> None:
        self.stage = stage
        self.history = history
        self.plan = plan = history.plan
        self.lock = threading.Lock()
        self.random = random.Random(plan.run)  # noqa: S311 - no secret

    def play(self) -> None:
        plan = self.plan
        for fault in plan.faults:
            if fault.target != REQUEST:
                self._leave_for_the_background(fault)
        copies = [
            threading.Thread(target=self._copy, args=(number, after))
            for number, after in enumerate(plan.copies, 1)
        ]
        for copy in copies:
            copy.start()
        if plan.is_forged:
            self._forge()
        self.until_answered("client", plan.run, USER, with_faults=True)
        if plan.asks_other_user and not self.history.unanswered:
            self.until_answered("other user", OTHER_USER + plan.run, OTHER)
        for copy in copies:
            copy.join()
        repeats = 0 if self.history.unanswered else plan.repeats
        for number in range(1, repeats + 1):
            self.until_answered(f"repeat {number}", plan.run, USER)
        self.history.ended = time.time()

    def until_answered(
        self,
        who: str,
        operation: int,
        user: int,
        *,
        with_faults: bool = False,
        first: Fault | None = None,
    ) -> None:
        started = self.stage.watcher.awake_seconds
        while self._seconds_since(started) < self.plan.deadline_seconds:
            if self.stage.has_failed.is_set():
                return
            sent = self._request(operation, user)
            fault, first = self._next_fault() if with_faults else first, None
            if fault is not None:
                sent[1]["X-Fault"] = json.dumps(asdict(fault))
            answer = self._send(who, sent, fault)
            if answer is not None and self._is_final(answer):
                self._answered(who, operation, answer, self._seconds_since(started))
                return
            time.sleep(self._pause(answer))
        with self.lock:
            self.history.unanswered.append((who, operation))

    def _leave_for_the_background(self, fault: Fault) -> None:
        name = f"{fault.target}-{fault.run}-{fault.number}"
        path = self.stage.folder / f"{name}.new"
        path.write_text(json.dumps(asdict(fault)))
        path.rename(path.with_suffix(".json"))

    def _next_fault(self) -> Fault | None:
        struck = self.stage.watcher.struck
        for fault in self.plan.faults:
            if fault.target == REQUEST and (fault.run, fault.number) not in struck:
                return fault
        return None

    def _seconds_since(self, started: float) -> float:
        return self.stage.watcher.awake_seconds - started

    def _copy(self, number: int, after: float) -> None:
        time.sleep(after)
        self.until_answered(f"copy {number}", self.plan.run, USER)

    def _forge(self) -> None:
        operation = FORGED + self.plan.run
        answer = self._send("forger", self._request(operation, USER, forged=True))
        if answer is not None and answer.status < 300:
            with self.lock:
                self.history.answers.append(("forger", operation, answer))

    def _is_final(self, answer: Answer) -> bool:
        if self._is_held(answer):
            return True
        return answer.status < 500 and answer.status != 409

    def _is_held(self, answer: Answer) -> bool:
        return self.plan.entry in HELD and answer.word == "409 outcome-unknown"

    def _answered(
        self, who: str, operation: int, answer: Answer, seconds: float
    ) -> None:
        with self.lock:
            self.history.longest_wait = max(self.history.longest_wait, seconds)
            if self._is_held(answer):
                self.history.held.append((who, operation))
            else:
                self.history.answers.append((who, operation, answer))

    def _pause(self, answer: Answer | None) -> float:
        if answer is not None and "Retry-After" in answer.headers:
            wanted = float(answer.headers["Retry-After"])
            return min(LONGEST_PAUSE_SECONDS, wanted)
        return self.random.uniform(0.05, 0.3)

    def _request(self, operation: int, user: int, *, forged: bool = False) -> Request:
        return request(
            self.plan.entry,
            self.plan.run,
            operation=operation,
            user=user,
            forged=forged,
        )

    def _send(
        self, who: str, sent: Request, fault: Fault | None = None
    ) -> Answer | None:
        started = time.time()
        answer: Answer | None = None
        try:
            address = self.stage.url_of(self.plan.entry)
            if fault is not None and fault.act == "leave":
                answer = self._post_and_leave(address, sent, fault)
            else:
                answer = post(address, self.plan.entry, *sent, self.plan.patience)
            got = "left" if answer is None else answer.word
        except TimeoutError:
            got = "time-out"
        except (OSError, http.client.HTTPException) as error:
            got = type(error).__name__
        moment = Moment(
            time=started,
            seconds=round(time.time() - started, 3),
            who=who + (" with the fault" if "X-Fault" in sent[1] else ""),
            got=got,
        )
        with self.lock:
            self.history.moments.append(moment)
        return answer

    def _post_and_leave(
        self, address: str, sent: Request, fault: Fault
    ) -> Answer | None:
        """Go away as soon as the call is being made."""
        end = time.monotonic() + self.plan.patience
        with closing(connected(address, self.plan.patience)) as connection:
            ask(connection, f"/{self.plan.entry}/", *sent)
            while not select([connection.sock], [], [], 0.01)[0]:
                if (fault.run, fault.number) in self.stage.watcher.struck:
                    return None
                if time.monotonic() > end:
                    raise TimeoutError
            return received(connection)


def record(stage: Stage, entry: str, fault: Fault) -> None:
    """Let one operation pass in peace, and its points be counted."""
    plan = Plan(
        run=fault.run,
        entry=entry,
        faults=(fault,),
        copies=(),
        repeats=0,
        asks_other_user=False,
        is_forged=False,
        patience=10,
    )
    history = play(stage, plan)
    if history.unanswered:
        raise RuntimeError(f"An operation without a fault failed: {history.told()}")
