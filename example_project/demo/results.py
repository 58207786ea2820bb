"""Playing it all, and judging it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from .browsers import Browser
from .endpoints import ENDPOINTS, Endpoint
from .ledger import Books, Ledger
from .providers import Provider
from .scenarios import SCENARIOS, STORM, Play, Scenario, ScenarioNotPlayed
from .stage import Stage
from .webhook_scenarios import WEBHOOK_SCENARIOS

__all__ = ["Result", "all_right", "play_all", "storm_did_damage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One scenario on one endpoint, as it ended."""

    scenario: Scenario
    endpoint: Endpoint
    requests: int
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
            "handled": self.handled,
            "distinct_answers": self.distinct_answers,
            "server_errors": self.server_errors,
            "ok": self.ok,
        }


def play_all(stage: Stage, progress: Callable[[str], None]) -> Iterator[Result]:
    """Play every scenario on every endpoint, one after the other."""
    ada, grace = stage.customers
    adas_carts, graces_carts = iter(ada.carts), iter(grace.carts)
    with (
        Ledger(stage) as ledger,
        closing(Browser.signed_in(stage.shop_url, ada)) as adas_browser,
        closing(Browser.signed_in(stage.shop_url, grace)) as graces_browser,
    ):
        for scenario in (*SCENARIOS, *WEBHOOK_SCENARIOS):
            for endpoint in ENDPOINTS:
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
                    )
                    yield _play(scenario, play, ada.cart_amount_minor)


def _play(scenario: Scenario, play: Play, cart_amount_minor: int) -> Result:
    before = play.ledger.now()
    not_played = None
    try:
        sent = scenario.play(play)
    except ScenarioNotPlayed as problem:
        sent, not_played = [], str(problem)
    books = play.ledger.now() - before
    answers = [answer for answer in sent if answer is not None]
    return Result(
        scenario=scenario,
        endpoint=play.endpoint,
        requests=len(sent),
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
