"""What goes wrong on a busy day, and what the books must say afterwards."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from .browsers import Answer, Browser, at_once
from .endpoints import DECLINED_CARD, ENDPOINTS, Endpoint
from .faults import DIE_AFTER_CHARGE
from .ledger import Books, Ledger
from .providers import Provider

__all__ = ["SCENARIOS", "Play", "Scenario", "ScenarioNotPlayed"]

STORM = 64
#: Less than a payment takes, so that the answer is lost while the shop is at work.
IMPATIENT_SECONDS = 0.1
#: Longer than a shop that is at work leaves the books alone.
QUIET_SECONDS = 1


class ScenarioNotPlayed(Exception):
    """The scenario didn't happen as it says, so that its numbers would mean nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """Who plays: two customers, each with carts that nobody has paid yet, and a
    payment provider that reports."""

    endpoint: Endpoint
    ada: Browser
    grace: Browser
    adas_carts: Iterator[int]
    graces_carts: Iterator[int]
    provider: Provider
    ledger: Ledger
    #: Runs commands of the shop at once.
    manage: Callable[[Sequence[Sequence[str]]], None]
    #: Whether the tasks have lost their protection too.
    unprotected: bool

    def handled(self) -> int:
        """How often the shop has acted on what the provider delivered."""
        only = None if self.endpoint.protected else self.endpoint.name
        return self.ledger.handled(self.provider.delivered, endpoint=only)

    def wait_until_handled(self, count: int, *, seconds: float) -> None:
        """Wait for what is handled after its delivery was answered."""
        self._wait_until(lambda: self.handled() >= count, seconds)

    def wait_until_mailed(self, count: int, *, seconds: float) -> None:
        """Wait for the mail of an answer that was seen as soon as it was committed."""
        self._wait_until(lambda: self.ledger.now().mails >= count, seconds)

    def wait_until_quiet(self, before: Books, *, seconds: float) -> None:
        """Wait for what the naive shop still does for somebody who has hung up."""
        end, seen, since = time.monotonic() + seconds, before, time.monotonic()
        while not self.endpoint.protected and time.monotonic() < end:
            if (now := self.ledger.now()) != seen:
                seen, since = now, time.monotonic()
            done = now - before
            is_quiet = time.monotonic() - since > QUIET_SECONDS
            if is_quiet and done.orders >= done.charges:
                return
            time.sleep(0.05)

    def _wait_until(self, is_done: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        # The naive shop does nothing later.
        while self.endpoint.protected and not is_done() and time.monotonic() < end:
            time.sleep(0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A story and its right ending."""

    name: str
    #: Plays it, and returns what each request got: ``None`` where no answer came.
    play: Callable[[Play], Sequence[Answer | None]]
    orders: int = 1
    charges: int = 1
    refunds: int = 0
    declines: int = 0
    #: How often the shop must act on events; ``None`` where no provider reports.
    handled: int | None = None
    statuses: Collection[int] = (201,)
    distinct_answers: int = 1
    #: What the provider is told on purpose, so that it comes again.
    server_errors: int = 0
    #: Whether it takes all that the shop has, or kills a worker, and with it whatever
    #: else that is serving: nothing else may be played there meanwhile.
    takes_whole_shop: bool = False
    endpoints: Collection[Endpoint] = ENDPOINTS

    @property
    def mails(self) -> int:
        """Each order is confirmed, once."""
        return self.orders


def double_click(play: Play) -> Sequence[Answer | None]:
    cart, key = next(play.adas_carts), _new_key()
    return at_once([play.ada] * 2, lambda tab: play.endpoint.checkout(tab, cart, key))


def answer_lost(play: Play) -> Sequence[Answer | None]:
    cart, key = next(play.adas_carts), _new_key()
    lost = play.endpoint.checkout(
        play.ada, cart, key, patience_seconds=IMPATIENT_SECONDS
    )
    if lost is not None:
        raise ScenarioNotPlayed("The answer came before it could be lost.")
    return [lost, *(play.endpoint.checkout(play.ada, cart, key) for _ in range(2))]


def storm(play: Play) -> Sequence[Answer | None]:
    cart, key = next(play.adas_carts), _new_key()
    browsers = [play.ada] * STORM
    return at_once(browsers, lambda tab: play.endpoint.checkout(tab, cart, key))


def other_cart(play: Play) -> Sequence[Answer | None]:
    first, second, key = next(play.adas_carts), next(play.adas_carts), _new_key()
    carts = (first, second, first)
    return [play.endpoint.checkout(play.ada, cart, key) for cart in carts]


def two_users(play: Play) -> Sequence[Answer | None]:
    key = _new_key()
    carts = {play.ada: next(play.adas_carts), play.grace: next(play.graces_carts)}

    def pay(tab: Browser) -> Answer | None:
        return play.endpoint.checkout(tab, carts[tab.opened_from], key)

    return at_once([play.ada, play.grace] * 2, pay)


def worker_killed(play: Play) -> Sequence[Answer | None]:
    cart, key = next(play.adas_carts), _new_key()
    before = play.ledger.now()
    lost = play.endpoint.checkout(play.ada, cart, key, headers=DIE_AFTER_CHARGE)
    happened = play.ledger.now() - before
    if lost is not None or (happened.orders, happened.charges) != (0, 1):
        raise ScenarioNotPlayed(
            "The worker was to die between the charge and the commit; "
            f"it left {happened.charges} charges and {happened.orders} orders."
        )
    return [lost, *(play.endpoint.checkout(play.ada, cart, key) for _ in range(2))]


def refund_twice(play: Play) -> Sequence[Answer | None]:
    paid = play.endpoint.checkout(play.ada, next(play.adas_carts), _new_key())
    if paid is None or paid.status != 201:
        raise ScenarioNotPlayed(f"The order to refund was not made: {paid}")
    order, key = play.endpoint.order_in(paid), _new_key()
    return at_once([play.ada] * 2, lambda tab: play.endpoint.refund(tab, order, key))


def declined(play: Play) -> Sequence[Answer | None]:
    cart, key = next(play.adas_carts), _new_key()
    answers = [
        play.endpoint.checkout(play.ada, cart, key, card=DECLINED_CARD)
        for _ in range(2)
    ]
    # Another card is another payment, and gets a new key.
    key = _new_key()
    return answers + at_once(
        [play.ada] * 2, lambda tab: play.endpoint.checkout(tab, cart, key)
    )


SCENARIOS = (
    Scenario(name="double click", play=double_click),
    Scenario(name="answer lost, browser resends", play=answer_lost),
    Scenario(
        name=f"{STORM} copies in the same instant", play=storm, takes_whole_shop=True
    ),
    Scenario(
        name="key reused with another cart",
        play=other_cart,
        statuses=(201, 422),
        distinct_answers=2,
    ),
    Scenario(
        name="two users with one key, each twice",
        play=two_users,
        orders=2,
        charges=2,
        distinct_answers=2,
    ),
    Scenario(
        name="worker killed after charge, then retry",
        play=worker_killed,
        takes_whole_shop=True,
    ),
    Scenario(name="refund sent twice", play=refund_twice, refunds=1),
    Scenario(
        name="card declined, retried, then new card",
        play=declined,
        declines=1,
        statuses=(402, 201),
        distinct_answers=2,
    ),
)


def _new_key() -> str:
    return str(uuid.uuid4())
