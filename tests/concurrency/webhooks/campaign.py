"""Program: kill workers at random points, and count how often each event was handled.

    python -m tests.concurrency.webhooks.campaign --kills 200 --seed 1 --json

Several `process_events` workers share an inbox that is kept filled through the view;
every few milliseconds one of them is killed and another started. At the end the rest is
handled in peace. Counted are the orders that were committed, per event. With
``DATABASE_URL`` that database is used, else a temporary one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.standalone import set_up

WORKERS = 3
BATCH = 30
LONGEST_LIFE_SECONDS = 0.15
DEADLINE_SECONDS = 60.0
"""For what is left when the killing has stopped."""


def main() -> int:
    options = _parsed(sys.argv[1:])
    with ExitStack() as stack:
        set_up(stack, "tests.concurrency.webhooks.settings")
        result = Campaign(options.kills, options.seed).run()
    if options.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for name, value in result.items():
            sys.stdout.write(f"{name.replace('_', ' ')}: {value}\n")
    is_right = result["handled_once"] == result["events"] and not result["dead"]
    return 0 if is_right else 1


class Campaign:
    def __init__(self, kills: int, seed: int) -> None:
        self.kills = kills
        self.random = random.Random(seed)  # noqa: S311 - no secret
        self.delivered = 0
        self.workers: list[int] = []

    def run(self) -> dict[str, Any]:
        started = time.monotonic()
        self._fill()
        self.workers = [self._start() for _ in range(WORKERS)]
        try:
            for _ in range(self.kills):
                time.sleep(self.random.uniform(0, LONGEST_LIFE_SECONDS))
                self._kill(self.random.choice(self.workers))
                self.workers.append(self._start())
                self._make_due()
                self._fill()
            self._wait_for_the_rest()
        finally:
            for worker in list(self.workers):
                self._kill(worker)
        return self._counts(time.monotonic() - started)

    def _start(self) -> int:
        from django.core.management import call_command
        from django.db import connections

        connections.close_all()  # a child must not share them
        child = os.fork()
        if child:
            return child
        with Path(os.devnull).open("w") as nowhere:
            random.seed(os.getpid())  # or all would have the parent's jitter
            call_command("process_events", poll_seconds=0.01, stdout=nowhere)
        os._exit(0)

    def _kill(self, worker: int) -> None:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
        self.workers.remove(worker)

    def _fill(self) -> None:
        """See that the workers have something to do until the next kill."""
        from tests.deliveries import deliver, stripe

        if _waiting().count() >= BATCH:
            return
        for _ in range(BATCH):
            answer = deliver("/inbox/", stripe(f"evt_{self.delivered}"))
            if answer.status_code != 200:
                raise RuntimeError(f"not stored: {answer.status_code}")
            self.delivered += 1

    def _make_due(self) -> None:
        """Let what a killed worker had begun be due at once, instead of in seconds.

        Rows that are locked are being handled, and are left alone.
        """
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE django_idempotency_processedevent"
                " SET next_attempt_at = clock_timestamp() WHERE id IN (SELECT id"
                " FROM django_idempotency_processedevent"
                " WHERE next_attempt_at > clock_timestamp() FOR UPDATE SKIP LOCKED)"
            )

    def _wait_for_the_rest(self) -> None:
        end = time.monotonic() + DEADLINE_SECONDS
        while _waiting().exists() and time.monotonic() < end:
            self._make_due()
            time.sleep(0.02)

    def _counts(self, seconds: float) -> dict[str, Any]:
        from django.db.models import Max

        from django_idempotency.models import ProcessedEvent
        from tests.testapp.models import Order

        times = Counter(Order.objects.values_list("amount", flat=True))
        rows = ProcessedEvent.objects.all()
        return {
            "kills": self.kills,
            "events": self.delivered,
            "handled_once": sum(times[number] == 1 for number in range(self.delivered)),
            "handled_again": sum(count > 1 for count in times.values()),
            "lost": sum(times[number] == 0 for number in range(self.delivered)),
            "dead": rows.filter(state="dead").count(),
            "killed_within_an_attempt": rows.filter(attempts__gt=1).count(),
            "most_attempts": rows.aggregate(most=Max("attempts"))["most"],
            "seconds": round(seconds, 1),
        }


def _waiting() -> Any:
    from django_idempotency.models import ProcessedEvent

    return ProcessedEvent.objects.exclude(next_attempt_at=None)


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
