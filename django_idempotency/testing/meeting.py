"""Brings copies together at each statement, so that a race is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections

from .lines import is_in_operation, is_of_the_package

LONGEST_SECONDS = 1.0
"""Who isn't there by then is kept waiting by something else, as by a lock."""


class Meeting:
    """Where copies wait for each other before each statement outside of an operation.

    Threads alone hardly overlap: each opens a connection first, and then is done in no
    time. Here all have looked before anybody writes. Within an operation nobody waits: the
    copies that the package keeps back can't come.
    """

    def __init__(self, copies: int) -> None:
        self._expected = copies
        self._here = 0
        self._round = 0
        self._is_over = False
        self._changed = threading.Condition()

    @contextmanager
    def attended(self) -> Iterator[None]:
        """Let what this thread asks of its databases wait for the others."""
        with ExitStack() as stack:
            stack.callback(self._leave)
            for each in connections.all():
                stack.enter_context(each.execute_wrapper(self._statement))
            yield

    def _statement(
        self,
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: Any,
        context: Any,
    ) -> Any:
        if not is_of_the_package() and not is_in_operation():
            self._meet()
        return execute(sql, params, many, context)

    def _meet(self) -> None:
        with self._changed:
            if self._is_over:
                return
            met = self._round
            self._here += 1
            self._go_on_if_complete()
            if not self._changed.wait_for(
                lambda: self._is_over or self._round != met, LONGEST_SECONDS
            ):
                self._is_over = True
                self._changed.notify_all()

    def _leave(self) -> None:
        with self._changed:
            self._expected -= 1
            self._go_on_if_complete()

    def _go_on_if_complete(self) -> None:
        if self._here >= self._expected:
            self._here = 0
            self._round += 1
            self._changed.notify_all()
