"""Playing it all, and judging it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from .browsers import Browser
from .endpoints import Endpoint
from .ledger import Books, Ledger
from .providers import Provider
from .scenarios import SCENARIOS, STORM, Play, Scenario, ScenarioNotPlayed
from .slow_scenarios import SLOW_SCENARIOS
from .stage import Customer, Stage
from .webhook_scenarios import WEBHOOK_SCENARIOS

__all__ = [
    "Result",
    "all_right",
    "play_all",
    "play_and_count",
    "storm_did_damage",
]

#: What a request may still be at after its answer was committed, and so replayed.
MAIL_SECONDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One scenario on one endpoint, as it ended."""

    scenario: Scenario
    endpoint: Endpoint
    requests: int
    #: Of those, how many got no answer.
    unanswered: int
    statuses: frozenset[int]
    distinct_answers: int
    server_errors: int
    #: What the database and the payment server say has happened.
    books: Books
    #: How often the database says that the shop acted on the scenario's events; `None`
    #: where no provider reports.
    handled: int | None
    #: What the customers wanted to pay.
    owed_minor: int
    #: Why it did not happen as it says.
    not_played: str | None = None

    @property
    def faults(self) -> list[str]:
        """What is not as it must be, the worst first; empty if all is."""
        if self.not_played is not None:
            return [self.not_played]
        wanted, books = self.scenario, self.books
        counted = (
            ("charges", "charge", books.charges, wanted.charges),
            ("refunds", "refund", books.refunds, wanted.refunds),
            ("orders", "order", books.orders, wanted.orders),
            ("declines", "decline", books.declines, wanted.declines),
            ("mails", "mail", books.mails, wanted.mails),
            ("handled", "handled", self.handled, wanted.handled),
            (
                "server errors",
                "server error",
                self.server_errors,
                wanted.server_errors,
            ),
            ("answers", "answer", self.distinct_answers, wanted.distinct_answers),
        )
        faults = [
            f"{got} {one if got == 1 else many}, not {right}"
            for many, one, got, right in counted
            if got != right
        ]
        if not faults and self.statuses != frozenset(wanted.statuses):
            got, right = (
                ", ".join(map(str, sorted(s))) for s in (self.statuses, wanted.statuses)
            )
            faults.append(f"status {got}, not {right}")
        return faults

    @property
    def ok(self) -> bool:
        return not self.faults

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.scenario.name,
            "endpoint": self.endpoint.name,
            "requests": self.requests,
            "orders": self.books.orders,
            "charges": self.books.charges,
            "refunds": self.books.refunds,
            "declines": self.books.declines,
            "mails": self.books.mails,
            "handled": self.handled,
            "distinct_answers": self.distinct_answers,
            "server_errors": self.server_errors,
            "ok": self.ok,
        }


def play_all(stage: Stage, progress: Callable[[str], None]) -> Iterator[Result]:
    """Play every scenario on its endpoints, one after the other, the slow ones last.

    Those have customers and a ledger each, and begin while the webhooks are tried.
    """
    pool = ThreadPoolExecutor(len(stage.others))
    carts = [iter(customer.carts) for customer in stage.customers]
    try:
        yield from _play_in_turn(stage, SCENARIOS, carts, progress)
        others = iter(stage.others)
        slow = [
            (
                scenario,
                endpoint,
                pool.submit(_play_alone, stage, next(others), scenario, endpoint),
            )
            for scenario in SLOW_SCENARIOS
            for endpoint in scenario.endpoints
        ]
        yield from _play_in_turn(stage, WEBHOOK_SCENARIOS, carts, progress)
        for scenario, endpoint, result in slow:
            progress(f"{scenario.name} ({endpoint.name})")
            yield result.result()
    finally:
        # Not waiting: after an interruption the threads end with their servers.
        pool.shutdown(wait=False, cancel_futures=True)


def _play_in_turn(
    stage: Stage,
    scenarios: Sequence[Scenario],
    carts: Sequence[Iterator[int]],
    progress: Callable[[str], None],
) -> Iterator[Result]:
    ada, grace = stage.customers
    adas_carts, graces_carts = carts
    with (
        Ledger(stage, amount_minor=ada.cart_amount_minor) as ledger,
        closing(Browser.signed_in(stage.shop_url, ada)) as adas_browser,
        closing(Browser.signed_in(stage.shop_url, grace)) as graces_browser,
    ):
        for scenario in scenarios:
            for endpoint in scenario.endpoints:
                progress(f"{scenario.name} ({endpoint.name})")
                with closing(Provider(stage.shop_url)) as provider:
                    play = Play(
                        endpoint=endpoint,
                        ada=adas_browser,
                        grace=graces_browser,
                        adas_carts=adas_carts,
                        graces_carts=graces_carts,
                        provider=provider,
                        ledger=ledger,
                        manage=stage.manage,
                        unprotected=stage.unprotected,
                    )
                    yield play_and_count(scenario, play, ada.cart_amount_minor)


def _play_alone(
    stage: Stage, who: Customer, scenario: Scenario, endpoint: Endpoint
) -> Result:
    """Play it at the shop with the slow provider."""
    with (
        Ledger(stage, amount_minor=who.cart_amount_minor) as ledger,
        closing(Browser.signed_in(stage.slow_shop_url, who)) as browser,
        closing(Provider(stage.slow_shop_url)) as provider,
    ):
        play = Play(
            endpoint=endpoint,
            ada=browser,
            grace=browser,
            adas_carts=iter(who.carts),
            graces_carts=iter(()),
            provider=provider,
            ledger=ledger,
            manage=stage.manage,
            unprotected=stage.unprotected,
        )
        return play_and_count(scenario, play, who.cart_amount_minor)


def play_and_count(scenario: Scenario, play: Play, cart_amount_minor: int) -> Result:
    """Play it, and ask the books what came of it."""
    before = play.ledger.now()
    not_played = None
    try:
        sent = scenario.play(play)
    except ScenarioNotPlayed as problem:
        sent, not_played = [], str(problem)
    else:
        play.wait_until_mailed(before.mails + scenario.mails, seconds=MAIL_SECONDS)
        if None in sent:
            play.wait_until_quiet(before, seconds=MAIL_SECONDS)
    books = play.ledger.now() - before
    answers = [answer for answer in sent if answer is not None]
    return Result(
        scenario=scenario,
        endpoint=play.endpoint,
        requests=len(sent),
        unanswered=len(sent) - len(answers),
        statuses=frozenset(answer.status for answer in answers),
        distinct_answers=len(set(answers)),
        server_errors=sum(answer.status >= 500 for answer in answers),
        books=books,
        handled=play.handled() if play.provider.delivered else None,
        owed_minor=scenario.charges * cart_amount_minor,
        not_played=not_played,
    )


def all_right(results: list[Result]) -> bool:
    """Whether the protection held, and had something to hold against."""
    held = all(result.ok for result in results if result.endpoint.protected)
    return held and storm_did_damage(results)


def storm_did_damage(results: list[Result]) -> bool:
    """Whether the storm broke the naive checkout.

    If it did not, it was no storm, and the right numbers of the others show nothing.
    """
    return any(
        result.requests == STORM and result.books.charges > 1
        for result in results
        if not result.endpoint.protected
    )
