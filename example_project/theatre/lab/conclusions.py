"""What it all means, in plain words for a shop owner."""

from __future__ import annotations

from example_project.theatre.demo.results import Result

__all__ = ["conclusion"]


def conclusion(naive: Result, protected: Result, *, is_unprotected: bool) -> str:
    """One sentence on each side."""
    for result in (naive, protected):
        if result.not_played is not None:
            return (
                "This did not happen as it should, so it shows nothing. "
                f"{result.not_played} Please press the button again."
            )
    what = "checkout" if naive.scenario.handled is None else "webhook"
    sentences = [
        f"The naive {what} {_deeds(naive, naive)}.",
        f"The protected one {_deeds(protected, naive)}.",
    ]
    if is_unprotected:
        sentences.insert(0, "The protection has been taken off on purpose.")
    if not protected.ok:
        sentences.append(f"As it should not be: {', '.join(protected.faults)}.")
    if naive.ok:
        sentences.append("The naive one was lucky this time: press the button again.")
    return " ".join(sentences)


def _euros(minor: int) -> str:
    return f"€{minor / 100:,.2f}"


def _deeds(result: Result, naive: Result) -> str:
    """What the side did, in that which the scenario is about or the naive one got wrong."""
    right, wrong = result.scenario, naive.books
    deeds = []
    if right.handled is not None:
        deeds.append(_acted(result.handled or 0, right.handled))
    elif right.refunds:
        deeds.append(f"gave the money back {_times(result.books.refunds)}")
    elif wrong.charges != right.charges or wrong.mails == right.mails:
        deeds.append(_charged(result))
    if wrong.mails not in (right.mails, wrong.orders):
        orders = _count(right.orders, "order")
        deeds.append(f"sent {_count(result.books.mails, 'mail')} for {orders}")
    if right.handled is None and _has_one_answer(result):
        deeds.append(f"gave {_copies(result)} the same answer")
    return " and ".join(deeds)


def _has_one_answer(result: Result) -> bool:
    right = result.scenario
    return (
        right.distinct_answers == result.distinct_answers == 1
        and result.statuses == frozenset(right.statuses)
    )


def _charged(result: Result) -> str:
    charges, due = result.books.charges, result.scenario.charges
    if charges == due:
        return "charged once" if due == 1 else f"charged once for each of {due} orders"
    if charges == 0:
        return "charged nobody"
    whom = "your customer" if due == 1 else "your customers"
    taken, owed = _euros(result.books.charged_minor), _euros(result.owed_minor)
    return (
        f"charged {whom} {_times(charges)} for {_count(due, 'order')} "
        f"({taken} instead of {owed})"
    )


def _acted(acted: int, right: int) -> str:
    what = "the payment" if right == 1 else "the reports"
    deed = f"acted on {what} {_times(acted)}"
    if acted == 0:
        return "never acted on the payment"
    if acted == right:
        return deed if right == 1 else f"{deed}, as it should"
    return f"{deed} instead of {_times(right)}"


def _copies(result: Result) -> str:
    if result.unanswered:
        return "each repeat"
    return (
        "both copies"
        if result.requests == 2
        else f"each of the {result.requests} copies"
    )


def _times(count: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _count(count: int, noun: str) -> str:
    return f"one {noun}" if count == 1 else f"{count} {noun}s"
