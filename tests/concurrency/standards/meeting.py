"""A copy that meets the first request in its view."""

from collections.abc import Callable
from typing import TypeVar

from tests.support.threads import (
    AT_THE_GATE,
    TIMEOUT,
    crew,
    gate_closed,
    start,
    until,
    until_waiting,
    waiting,
)

T = TypeVar("T")


def meeting(first: Callable[[], T], copy: Callable[[], T]) -> tuple[T, T]:
    """Send a copy while the first is at the gate in its view; what both came back with.

    A copy that nobody keeps from the view is let in there before the first goes on.
    """
    with gate_closed() as gate, crew() as threads:
        one = start(threads, first)
        until_waiting(1, AT_THE_GATE)
        other = start(threads, copy)
        until(lambda: other.done() or waiting(AT_THE_GATE) > 1)
        gate.open()
        return one.result(TIMEOUT), other.result(TIMEOUT)
