"""*Done once*: what was stopped, what waits and who is needed, on one page.

Never a scan: what happened is read from the counts of hours, and what waits along
indexes that have nothing but waiting rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext, ngettext

from django_idempotency.conf import conf
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.store.health import MOST, gauges
from django_idempotency.store.hours import (
    REQUESTS,
    Summary,
    Total,
    busiest_endpoint,
    totals_since,
)
from django_idempotency.store.records import record_alias
from django_idempotency.stories.telling import duration

from .charts import Chart, drawn, spans
from .needed import Needed, age_of, needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One number."""

    label: str
    number: str
    detail: str
    tone: str = "plain"
    url: str = ""


class Front:
    """The page, for one person: only what the admin lets this person view."""

    def __init__(self, request: HttpRequest, lists: dict[type, str]) -> None:
        self.request = request
        self.records_url = lists.get(IdempotencyRecord, "")
        self.events_url = lists.get(ProcessedEvent, "")
        """Of the lists; empty: may not be seen."""
        self.find_url = f"{self.records_url or self.events_url}find/"
        self.spans = spans()
        wanted = request.GET.get("span", "")
        self.span = next(
            (each for each in self.spans if each.name == wanted), self.spans[0]
        )
        self.starts = self.span.starts
        self.gauges = gauges()
        self.totals = totals_since(self.starts[0], using=record_alias())
        self.summary = Summary.of(self.totals)

    @property
    def zone(self) -> str:
        return timezone.get_current_timezone_name()

    @property
    def is_on(self) -> bool:
        return conf.IDEMPOTENCY_STATISTICS

    @property
    def sentence(self) -> str:
        summary = self.summary
        if not self.totals:
            return ""
        if not summary.repeats:
            return gettext("Nothing came twice: each request was done once.")
        text = ngettext(
            "%(count)s repeat was answered without doing the work again.",
            "%(count)s repeats were answered without doing the work again.",
            summary.repeats,
        ) % {"count": shown(summary.repeats)}
        if summary.not_charged:
            cost = gettext("They would have cost your customers %(amount)s.")
            amounts = [money(*each) for each in summary.not_charged.items()]
            text = f"{text} {cost % {'amount': ', '.join(amounts)}}"
        return text

    @cached_property
    def tiles(self) -> list[Tile]:
        return [
            *(self._tiles_of_records() if self.records_url else ()),
            *(self._tiles_of_events() if self.events_url else ()),
        ]

    def _tiles_of_records(self) -> list[Tile]:
        summary, waiting = self.summary, self.gauges
        charged = [
            money(currency, amount, briefly=True)
            for currency, amount in summary.not_charged.items()
        ]
        return [
            Tile(
                label=gettext("Repeats stopped"),
                number=shown(summary.repeats),
                detail=ngettext(
                    "of %(count)s request", "of %(count)s requests", summary.requests
                )
                % {"count": shown(summary.requests)},
                tone="good" if summary.repeats else "plain",
            ),
            Tile(
                label=gettext("Not charged twice"),
                number=charged[0] if charged else shown(0),
                detail=(
                    gettext("and %(amounts)s") % {"amounts": ", ".join(charged[1:])}
                    if charged[1:]
                    else gettext("sum of the answers repeated")
                    if charged
                    else gettext("no repeat says its amount")
                ),
                tone="good" if charged else "plain",
            ),
            Tile(
                label=gettext("Held, needs you"),
                number=shown(waiting.held),
                detail=_oldest(waiting.oldest_held_since, gettext("nobody waits")),
                tone="waiting" if waiting.held else "plain",
                url=f"{self.records_url}?state__exact=held" if waiting.held else "",
            ),
            Tile(
                label=gettext("Running now"),
                number=shown(waiting.in_flight),
                detail=_longest(waiting.oldest_in_flight_since),
            ),
            Tile(
                label=gettext("Same key, other content"),
                number=shown(summary.mismatched),
                detail=self._where_mismatched(),
                tone="bad" if summary.mismatched else "plain",
            ),
        ]

    def _where_mismatched(self) -> str:
        if not self.summary.mismatched:
            return gettext("none refused")
        most = self._busiest("mismatched", self.starts[0], None)
        if most is None:
            return gettext("refused")
        return gettext("%(count)s at %(endpoint)s") % {
            "endpoint": most[0],
            "count": shown(most[1]),
        }

    def _tiles_of_events(self) -> list[Tile]:
        waiting = self.gauges
        return [
            Tile(
                label=gettext("Webhooks given up"),
                number=shown(waiting.dead),
                detail=(
                    gettext("none wait")
                    if waiting.oldest_due_at is None
                    else gettext("%(count)s due, oldest %(age)s")
                    % {
                        "count": shown(waiting.due),
                        "age": age_of(waiting.oldest_due_at),
                    }
                ),
                tone="bad" if waiting.dead else "plain",
            )
        ]

    @cached_property
    def charts(self) -> list[Chart]:
        return [
            *([self._requests()] if self.records_url else ()),
            *([self._webhooks()] if self.events_url else ()),
        ]

    def _requests(self) -> Chart:
        all_of_them = self._by_bar(*REQUESTS)
        repeats = self._by_bar("replayed")
        first = [all_ - again for all_, again in zip(all_of_them, repeats, strict=True)]
        names = [self.span.named(start) for start in self.starts]
        return Chart(
            name="requests",
            title=gettext("Requests: first ones and, on top, repeats stopped"),
            summary=ngettext(
                "%(requests)s request, %(repeats)s of them repeats.",
                "%(requests)s requests, %(repeats)s of them repeats.",
                self.summary.requests,
            )
            % {
                "requests": shown(self.summary.requests),
                "repeats": shown(self.summary.repeats),
            },
            heads=(gettext("Requests"), gettext("Repeats stopped")),
            bars=drawn(
                names,
                first,
                repeats,
                lambda number: (shown(all_of_them[number]), shown(repeats[number])),
            ),
            caption=self._peak(repeats, names),
        )

    def _peak(self, repeats: Sequence[int], names: Sequence[str]) -> str:
        highest = max(repeats)
        if not highest:
            return gettext("No repeats.")
        number = repeats.index(highest)
        start = self.starts[number]
        most = self._busiest(
            "replayed", start, start + timedelta(hours=self.span.hours)
        )
        text = ngettext(
            "%(when)s: %(count)s repeat", "%(when)s: %(count)s repeats", highest
        ) % {"when": names[number], "count": shown(highest)}
        if most is None:
            return f"{text}."
        where = gettext("%(count)s at %(endpoint)s") % {
            "endpoint": most[0],
            "count": shown(most[1]) if most[1] < highest else gettext("all"),
        }
        return gettext("%(repeats)s, %(where)s.") % {"repeats": text, "where": where}

    def _webhooks(self) -> Chart:
        done = self._by_bar("event_processed")
        waited = [0.0] * self.span.bars
        for total in self.totals:
            if total.outcome == "event_processed":
                waited[self._bar_of(total)] += total.waited
        means = [
            sum_ / count if count else 0.0
            for sum_, count in zip(waited, done, strict=True)
        ]
        caption = gettext("%(done)s done, %(again)s came again.") % {
            "done": shown(self.summary.events),
            "again": shown(self.summary.event_duplicates),
        }
        return Chart(
            name="webhooks",
            title=gettext("Webhooks: received → done, seconds"),
            summary=ngettext(
                "%(done)s webhook, done after %(seconds)s on the average.",
                "%(done)s webhooks, done after %(seconds)s on the average.",
                self.summary.events,
            )
            % {
                "done": shown(self.summary.events),
                "seconds": seconds(self.summary.event_seconds),
            },
            heads=(gettext("Done"), gettext("After")),
            bars=drawn(
                [self.span.named(start) for start in self.starts],
                means,
                [0.0] * len(means),
                lambda number: (shown(done[number]), seconds(means[number])),
            ),
            caption=caption,
        )

    def _busiest(
        self, outcome: str, since: datetime, until: datetime | None
    ) -> tuple[str, int] | None:
        end = until or self.starts[-1] + timedelta(hours=self.span.hours)
        return busiest_endpoint(outcome, since, end, using=record_alias())

    def _by_bar(self, *outcomes: str) -> list[int]:
        counts = [0] * self.span.bars
        for total in self.totals:
            if total.outcome in outcomes:
                counts[self._bar_of(total)] += total.count
        return counts

    def _bar_of(self, total: Total) -> int:
        return self.span.index(self.starts, total.hour)

    @cached_property
    def rows(self) -> list[Needed]:
        return needed(
            self.request, records=bool(self.records_url), events=bool(self.events_url)
        )

    @property
    def left_out(self) -> str:
        """How many more there are than are shown."""
        held = self.gauges.held if self.records_url else 0
        dead = self.gauges.dead if self.events_url else 0
        more = held + dead - len(self.rows)
        return shown(more) if more > 0 else ""

    @property
    def lists_of_more(self) -> list[tuple[str, str]]:
        return [
            (label, f"{url}?state__exact={state}")
            for label, url, state in (
                (gettext("all that are held"), self.records_url, "held"),
                (gettext("all that were given up"), self.events_url, "dead"),
            )
            if url
        ]


def shown(number: int) -> str:
    text = number_format(number, use_l10n=True, force_grouping=True)
    return f"{text}+" if number == MOST else text


def money(currency: str, amount: Decimal, *, briefly: bool = False) -> str:
    digits = 0 if briefly and amount >= 1000 else 2
    number = number_format(
        amount, decimal_pos=digits, use_l10n=True, force_grouping=True
    )
    return f"{number} {currency}" if currency.isalpha() else f"{currency}{number}"


def seconds(value: float) -> str:
    digits = 0 if value >= 10 else 1
    return gettext("%(number)s s") % {
        "number": number_format(value, decimal_pos=digits, use_l10n=True)
    }


def _longest(since: datetime | None) -> str:
    if since is None:
        return gettext("with a lease")
    return gettext("longest: %(age)s") % {"age": duration(timezone.now() - since)}


def _oldest(since: datetime | None, nothing: str) -> str:
    if since is None:
        return nothing
    return gettext("oldest %(age)s") % {"age": age_of(since)}


def front_of(request: HttpRequest, app_list: Any) -> Front | None:
    """Return the page's content; ``None``: there is nothing that this person may view.

    `app_list` is the admin's own account of that, so it follows a project's own admins.
    """
    lists = {
        model["model"]: model["admin_url"]
        for app in app_list
        for model in app["models"]
        if model["admin_url"] and model["perms"].get("view")
    }
    wanted = {IdempotencyRecord, ProcessedEvent} & lists.keys()
    return Front(request, lists) if wanted else None
