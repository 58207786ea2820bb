"""The results for people: a table and one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .endpoints import ENDPOINTS, NAIVE, Endpoint
from .results import Result
from .stage import WEBHOOK_SECRET, Stage

__all__ = ["Paint", "addresses", "sentence", "table", "way_in"]

_HEADINGS = (
    "Requests",
    "Orders",
    "Charges",
    "Refunds",
    "Mails",
    "Handled",
    "Answers",
    "5xx",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paint:
    """How to write what; without a terminal each writes its text as it is."""

    good: Callable[[str], str] = str
    bad: Callable[[str], str] = str
    strong: Callable[[str], str] = str


def table(results: Sequence[Result], paint: Paint) -> str:
    """One block a scenario, one line an endpoint, and at the end what it means."""
    first = max(len(result.scenario.name) for result in results)
    second = max(len(result.endpoint.name) for result in results)
    heading = "  ".join((" " * (first + 2 + second), *_HEADINGS))
    lines = [paint.strong(heading)]
    for scenario in dict.fromkeys(result.scenario for result in results):
        lines.append("─" * len(heading))
        name = scenario.name
        for result in results:
            if result.scenario is scenario:
                label = f"{name:{first}}  {result.endpoint.name:{second}}"
                lines.append("  ".join((label, *_cells(result, paint))))
                name = ""
    lines += [
        "",
        "Handled: how often the shop acted on what a payment provider reported.",
        "Answers: how many different ones the customers, or the provider, got.",
    ]
    return "\n".join(lines)


def sentence(results: Sequence[Result]) -> str:
    """The demo for a shop owner."""
    # The naive checkout is played in each scenario; the others not in those of their kind.
    owed = {endpoint.name: _owed(results, endpoint) for endpoint in ENDPOINTS}
    taken = {endpoint.name: _taken(results, endpoint) for endpoint in ENDPOINTS}
    wanted, naive = owed.pop("naive"), taken.pop("naive")
    if taken == owed:
        others = "the protected ones took what was owed, to the cent, whatever happened"
    else:
        parts = [f"{_euros(amount)} ({name})" for name, amount in taken.items()]
        others = f"the others took {' and '.join(parts)}"
    return (
        f"Your customers wanted to pay {_euros(wanted)}: the naive checkout took "
        f"{_euros(naive)} from their cards, {others}.\n{_reported(results)}"
    )


def addresses(stage: Stage) -> dict[str, str]:
    """Where everything is while the demo serves: pages first, then what programs ask."""
    paths = ", ".join(endpoint.checkout_path for endpoint in ENDPOINTS)
    webhooks = ", ".join(
        dict.fromkeys(endpoint.payments_webhook for endpoint in ENDPOINTS)
    )
    return {
        "lab": f"{stage.lab_url}/lab/",
        "shop": f"{stage.lab_url}/shop/",
        "admin": f"{stage.lab_url}/admin/",
        "checkouts": f"{stage.shop_url}{paths}",
        "slow provider": f"{stage.slow_shop_url}{paths}",
        "webhooks": f"{stage.shop_url}{webhooks}, signed with {WEBHOOK_SECRET}",
        "gateway": f"{stage.gateway_url}/v1/payment_intents",
        "payment server": f"{stage.payment_server_url}/v1/charges",
        "mails": str(stage.mails),
        "database": stage.database_url,
        "logs": str(stage.logs),
    }


def way_in(stage: Stage, paint: Paint) -> str:
    """The addresses, and who may sign in, for whoever has started it."""
    pages = addresses(stage)
    lab, shop, admin = (pages.pop(name) for name in ("lab", "shop", "admin"))
    customers = " or ".join(f"{who.name} / {who.password}" for who in stage.customers)
    owner = f"{stage.owner.name} / {stage.owner.password}"
    return "\n".join(
        (
            f"lab    {paint.strong(lab)}  bad days at the press of a button",
            f"shop   {paint.strong(shop)}  as {customers}",
            f"admin  {paint.strong(admin)}  as {owner}",
            "",
            *_lines(pages),
            "",
            "Ctrl-C ends it all.\n",
        )
    )


def _lines(pages: Mapping[str, str]) -> list[str]:
    width = max(map(len, pages))
    return [f"{name:{width}}  {address}" for name, address in pages.items()]


def _cells(result: Result, paint: Paint) -> list[str]:
    wanted, books = result.scenario, result.books
    counted = (
        (result.requests, result.requests),
        (books.orders, wanted.orders),
        (books.charges, wanted.charges),
        (books.refunds, wanted.refunds),
        (books.mails, wanted.mails),
        (_or_dash(result.handled), _or_dash(wanted.handled)),
        (result.distinct_answers, wanted.distinct_answers),
        (result.server_errors, wanted.server_errors),
    )
    cells = [
        (str if got == right else paint.bad)(f"{got:>{len(heading)}}")
        for heading, (got, right) in zip(_HEADINGS, counted, strict=True)
    ]
    verdict = "✓" if result.ok else f"✗ {result.faults[0]}"
    return [*cells, (paint.good if result.ok else paint.bad)(verdict)]


def _reported(results: Sequence[Result]) -> str:
    """The same for what the payment providers reported."""
    wanted = sum(
        result.scenario.handled or 0 for result in results if result.endpoint is NAIVE
    )
    wrong = {
        endpoint.name: _missed_and_extra(results, endpoint) for endpoint in ENDPOINTS
    }
    missed, extra = wrong.pop("naive")
    if set(wrong.values()) == {(0, 0)}:
        others = "the protected ones did each once, whatever happened"
    else:
        parts = [f"{m} and {e} ({name})" for name, (m, e) in wrong.items()]
        others = f"the others {' and '.join(parts)}"
    return (
        f"Your payment providers reported {wanted} things to do: the naive webhooks "
        f"missed {missed} and did {extra} that nobody asked for, {others}."
    )


def _missed_and_extra(results: Sequence[Result], endpoint: Endpoint) -> tuple[int, int]:
    off = [
        (result.handled or 0) - (result.scenario.handled or 0)
        for result in results
        if result.endpoint is endpoint
    ]
    return -sum(n for n in off if n < 0), sum(n for n in off if n > 0)


def _or_dash(count: int | None) -> int | str:
    return "–" if count is None else count  # noqa: RUF001


def _owed(results: Sequence[Result], endpoint: Endpoint) -> int:
    own = [result for result in results if result.endpoint is endpoint]
    return sum(result.owed_minor for result in own)


def _taken(results: Sequence[Result], endpoint: Endpoint) -> int:
    own = [result for result in results if result.endpoint is endpoint]
    return sum(result.books.charged_minor for result in own)


def _euros(minor: int) -> str:
    return f"€{minor / 100:,.2f}"
