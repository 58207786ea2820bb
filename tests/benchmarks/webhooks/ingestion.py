"""Whole requests: from the WSGI environment to the answer, with the event stored."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from tests.benchmarks.timing import microseconds_each
from tests.benchmarks.wsgi import post
from tests.deliveries import stripe

__all__ = ["ingestion"]


def ingestion(*, count: int, rounds: int) -> dict[str, float]:
    numbers = itertools.count()

    def delivering_to(path: str) -> Callable[[], None]:
        def deliver() -> None:
            sent = stripe(f"evt_{next(numbers)}", padding="x" * 1500)
            status, _ = post(path, sent.body, sent.headers)
            if status != 200:
                raise RuntimeError(f"{path} has not stored the event")

        return deliver

    times = microseconds_each(
        {
            "ours": delivering_to("/ours/"),
            "by_hand": delivering_to("/by-hand/"),
            "by_hand_in_a_transaction": delivering_to("/by-hand-in-a-transaction/"),
        },
        count=count,
        rounds=rounds,
    )
    return {f"{name}_us": each for name, each in times.items()} | {
        "ratio": round(times["by_hand"] / times["ours"], 2),
        "ratio_to_a_transaction": round(
            times["by_hand_in_a_transaction"] / times["ours"], 2
        ),
    }
