"""Playing a story on both sides, with the demo's own code."""

from __future__ import annotations

import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass

from django.db import connection

from example_project.theatre.demo.browsers import Browser
from example_project.theatre.demo.endpoints import NAIVE, Endpoint
from example_project.theatre.demo.ledger import Ledger
from example_project.theatre.demo.places import Stage
from example_project.theatre.demo.providers import Provider
from example_project.theatre.demo.results import Result, play_and_count
from example_project.theatre.demo.scenarios import Play

from .carts import Goods, goods_with
from .conclusions import conclusion
from .runs import Event, Run
from .stories import STORIES, Story
from .troubles import find_trouble
from .watching import Answers, live_books

__all__ = ["Player"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two that the page shows beside each other."""

    name: str
    endpoint: Endpoint
    #: Their price tells what happens here from all else.
    goods: Goods
    run: Run

    def tell(self, event: Event) -> None:
        self.run.tell({**event, "side": self.name})


class Player:
    """Plays on this stage; each run with carts of its own."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._ribbons = itertools.count(1)

    def play(self, run: Run) -> None:
        """Play the run's story, and tell what happens and what it means."""
        story = STORIES[run.slug]
        if trouble := find_trouble(self._stage):
            run.tell(trouble)
            return
        try:
            naive, protected = self._play_sides(story, run)
        except Exception:
            # What came of a server's end is told by its end.
            if (trouble := find_trouble(self._stage)) is None:
                raise
            logger.warning("Played on a broken stage.", exc_info=True)
            run.tell(trouble)
            return
        finally:
            connection.close()  # this thread's own
        if not protected.ok and (trouble := find_trouble(self._stage)):
            run.tell(trouble)
            return
        text = conclusion(naive, protected, is_unprotected=self._stage.unprotected)
        moral = story.moral if protected.ok else ""
        run.tell({"kind": "end", "ok": protected.ok, "text": text, "moral": moral})

    def _play_sides(self, story: Story, run: Run) -> list[Result]:
        """On both sides at once, or one after the other where it takes the whole shop."""
        sides = [
            Side(
                name=name,
                endpoint=endpoint,
                goods=goods_with(ribbon=next(self._ribbons)),
                run=run,
            )
            for name, endpoint in (("naive", NAIVE), ("protected", story.protected))
        ]
        for side in sides:
            side.tell(_cast(story, side))
        with ThreadPoolExecutor(1 if story.scenario.takes_whole_shop else 2) as pool:
            return list(pool.map(lambda side: self._play_side(story, side), sides))

    def _play_side(self, story: Story, side: Side) -> Result:
        stage, answers = self._stage, Answers(side.tell)
        ada, grace = stage.customers
        shop_url = stage.slow_shop_url if story.is_slow else stage.shop_url
        side.tell({"kind": "step", "text": "The customers sign in."})
        try:
            with (
                Ledger(stage, amount_minor=side.goods.price_minor) as ledger,
                closing(Browser.signed_in(shop_url, ada)) as adas_browser,
                closing(Browser.signed_in(shop_url, grace)) as graces_browser,
                closing(Provider(shop_url, answers.watch)) as provider,
            ):
                adas_browser.watch = graces_browser.watch = answers.watch
                play = Play(
                    endpoint=side.endpoint,
                    ada=adas_browser,
                    grace=graces_browser,
                    adas_carts=side.goods.carts_of(ada.name),
                    graces_carts=side.goods.carts_of(grace.name),
                    provider=provider,
                    ledger=ledger,
                    manage=stage.manage,
                    unprotected=stage.unprotected,
                )
                side.tell({"kind": "step", "text": "The requests are on their way."})
                with live_books(stage, play, side.goods.price_minor, side.tell):
                    result = play_and_count(
                        story.scenario, play, side.goods.price_minor
                    )
        finally:
            connection.close()
        side.tell(_outcome(result))
        return result


def _cast(story: Story, side: Side) -> Event:
    """What is about to be played there, and how it should end."""
    right = story.scenario
    return {
        "kind": "begin",
        "owed_minor": right.charges * side.goods.price_minor,
        "right": {
            "orders": right.orders,
            "charges": right.charges,
            "refunds": right.refunds,
            "mails": right.mails,
            "handled": right.handled,
        },
    }


def _outcome(result: Result) -> Event:
    return {
        "kind": "result",
        "ok": result.ok,
        "faults": result.faults,
        **asdict(result.books),
        "handled": result.handled,
    }
