"""Hands events to a webhook's handler in every order, and lets it fail everywhere."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import permutations
from math import factorial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from django_idempotency.webhooks.endpoints import Endpoint
from django_idempotency.webhooks.receiver import receive

from .calls import require
from .crashing import CrashPoints
from .deliveries import FORM, body_of
from .interruptions import ProcessEnded
from .signing import signed
from .state import Change, differences, is_allowed, state_of, volatile

__all__ = ["assert_handler_safe"]

MAX_ORDERS = 120
"""All orders of five events."""


def assert_handler_safe(
    receiver: Callable[..., Any],
    events: Sequence[Any],
    *,
    outside: Collection[str] = (),
    max_orders: int = MAX_ORDERS,
) -> None:
    """Assert that the same events leave the same behind, however they come.

    They are delivered in the order given, as the provider signs them; then in every
    other order, or in `max_orders` of them, each event twice in a row and once more at
    the end; and in the order given with a failure at each statement and outside call.
    What isn't acknowledged is delivered again, as the provider does it. Afterwards the
    user's tables, the mails and the outside calls must be the same each time.

    `receiver` is the view that ``@webhook`` has made, or a ``WebhookView``. `events` are
    bodies, as for `deliver`; or pairs of a body and headers. With ``inbox=True`` the
    handler is run at once. Everything is rolled back each time, so this works in a plain
    ``TestCase`` too; callbacks of ``on_commit`` are not run.

    Raises:
        AssertionError: with the order, or the line of your code, that makes a difference.
        ImproperlyConfigured: it isn't a receiver, or nothing here can sign for it.
    """
    trial = _Trial(_endpoint_of(receiver), list(events), outside)
    given = tuple(range(len(events)))
    with trial.points.installed(outside):
        expected = trial.of(given)
        reached = len(trial.points.reached)
        again = trial.of(given)
        require(
            bool(expected.entries),
            "The events changed nothing in the tables, sent no mail and called nobody: "
            "any order would do. Are they events that the receiver handles?",
        )
        ignored = volatile(expected, again)
        for order in _orders(given, max_orders):
            said = differences(expected, trial.of(order, times=2), ignored)
            require(
                not said,
                f"Another order leaves something else behind. Delivered\n  "
                f"{trial.told(order)}\ninstead of\n  {trial.told(given)}\n"
                "each of them more than once:\n  " + "\n  ".join(said),
            )
        for number in range(reached):
            change = trial.of(given, fails_at=number)
            said = differences(expected, change, ignored)
            require(
                not said,
                f"{trial.points.told(number)}:\n  "
                + "\n  ".join(said)
                + f"\n\n{ADVICE}",
            )


ADVICE = """\
What the handler asks of others must have the same key at each attempt:
current_operation().key_for("…")."""


class _Trial:
    """Deliveries of the same events, each time from the same beginning."""

    def __init__(
        self, endpoint: Endpoint, events: list[Any], outside: Collection[str]
    ) -> None:
        # The provider would give a 2xx for what is only stored, and any number of tries.
        self.endpoint = replace(endpoint, inbox=False, ordered=False, max_attempts=None)
        self.events = events
        self.points = CrashPoints(within=_deliver.__code__)

    def of(
        self, order: Sequence[int], *, times: int = 1, fails_at: int | None = None
    ) -> Change:
        """Return what the events change, delivered in this order; then undo it."""
        self.points.calls.clear()  # the other side hasn't seen these events before
        with _undone():
            before = state_of(self.points.calls)
            with self.points.opened(fails_at):
                self._deliver_all([each for each in order for _ in range(times)])
            if times > 1:
                self._deliver_all(order)
            return Change.between(before, state_of(self.points.calls))

    def told(self, order: Iterable[int]) -> str:
        return ", ".join(_name(self.events[each]) for each in order)

    def _deliver_all(self, order: Sequence[int]) -> None:
        """Deliver, and deliver again what isn't acknowledged, as long as that helps."""
        left = list(order)
        for _ in range(len(self.events) + 2):
            left = [each for each in left if not self._is_acknowledged(each)]
            if not left:
                return
        raise AssertionError(
            f"Not acknowledged, however often it is delivered: {self.told(left[:1])}, in "
            f"the order\n  {self.told(order)}"
        )

    def _is_acknowledged(self, number: int) -> bool:
        try:
            response = _deliver(self.endpoint, self.events[number])
        except ProcessEnded:
            self.points.is_open = False
            return False
        return 200 <= response.status_code < 300


def _deliver(endpoint: Endpoint, event: Any) -> HttpResponse:
    """Sign and receive an event; as in a server, nothing is left open if that fails."""
    body, headers = event if isinstance(event, tuple) else (event, {})
    profile = endpoint.profile
    url = endpoint.url or "http://testserver/"
    secrets = endpoint.current_secrets()
    require(bool(secrets), f"The receiver {endpoint.name!r} has no secret.")
    content, signed_headers = signed(
        profile, secrets[0], body_of(profile, body), headers, url=url
    )
    request: HttpRequest = RequestFactory().post(
        "/",
        content,
        content_type=FORM if profile.is_form else "application/json",
        headers=signed_headers,
    )
    return receive(endpoint, request)


@contextmanager
def _undone() -> Iterator[None]:
    """Roll back at the end, in each database that the test may use."""
    with ExitStack() as stack:
        for alias in filter(is_allowed, connections):
            stack.enter_context(transaction.atomic(using=alias))
            stack.callback(transaction.set_rollback, True, using=alias)
        yield


def _endpoint_of(receiver: Any) -> Endpoint:
    """
    Raises:
        ImproperlyConfigured: it isn't a receiver.
    """
    if hasattr(receiver, "as_endpoint"):
        receiver = receiver.as_view()
    endpoint = getattr(receiver, "webhook_endpoint", None)
    if isinstance(endpoint, Endpoint):
        return endpoint
    raise ImproperlyConfigured(
        f"{receiver!r} isn't a receiver of webhooks. Hand over the view itself:\n\n"
        "    assert_handler_safe(payments, [paid, refunded])\n\n"
        "where payments is decorated with @webhook(…), or is a WebhookView."
    )


def _orders(given: tuple[int, ...], limit: int) -> Iterator[tuple[int, ...]]:
    """Yield all orders, or so many that are drawn, always the same ones."""
    if factorial(len(given)) <= limit:
        yield from permutations(given)
        return
    yield given
    yield given[::-1]
    drawn = random.Random(0)  # noqa: S311 - no secret, and the same each time
    for _ in range(limit - 2):
        yield tuple(drawn.sample(given, len(given)))


def _name(event: Any) -> str:
    """What tells an event from the others: its type and id if it has them."""
    body = event[0] if isinstance(event, tuple) else event
    content = body if isinstance(body, dict) else {}
    named = [str(content[name]) for name in ("type", "id") if name in content]
    return " ".join(named) or repr(body)[:60]
