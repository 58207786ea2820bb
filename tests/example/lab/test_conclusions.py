"""The lab's stories are the demo's scenarios, and end with words for a shop owner."""

from dataclasses import replace
from typing import Any

from example_project.theatre.demo.endpoints import NAIVE
from example_project.theatre.demo.ledger import Books
from example_project.theatre.demo.results import Result
from example_project.theatre.demo.scenarios import SCENARIOS
from example_project.theatre.demo.slow_scenarios import SLOW_SCENARIOS
from example_project.theatre.demo.webhook_scenarios import WEBHOOK_SCENARIOS
from example_project.theatre.lab.conclusions import conclusion
from example_project.theatre.lab.stories import GROUPS, STORIES
from tests.support.cases import cases

CART = 4651


def test_each_scenario_of_the_demo_has_one_button() -> None:
    told = [story.scenario.name for group in GROUPS for story in group.stories]
    played = [*SCENARIOS, *WEBHOOK_SCENARIOS, *SLOW_SCENARIOS]

    assert sorted(told) == sorted(scenario.name for scenario in played)
    assert len(STORIES) == len(told)


def test_each_story_is_played_on_an_endpoint_of_its_scenario() -> None:
    for story in STORIES.values():
        assert story.protected.protected
        assert story.protected in story.scenario.endpoints


def ended(slug: str, **wrong: Any) -> Result:
    """A result that is right but for what is named."""
    story = STORIES[slug]
    right = story.scenario
    fields: dict[str, Any] = {
        "requests": 64 if slug == "storm" else 2,
        "unanswered": 0,
        "statuses": frozenset(right.statuses),
        "distinct_answers": right.distinct_answers,
        "server_errors": right.server_errors,
        "handled": right.handled,
    }
    counted = ("orders", "charges", "declines", "refunds", "mails")
    books = {name: getattr(right, name) for name in counted}
    for name, value in wrong.items():
        (books if name in books else fields)[name] = value
    return Result(
        scenario=right,
        endpoint=NAIVE,
        books=Books(**books, charged_minor=books["charges"] * CART),
        owed_minor=right.charges * CART,
        **fields,
    )


SENTENCES: dict[str, tuple[str, dict[str, int], str]] = {
    "copies": (
        "storm",
        {"charges": 42, "orders": 42, "mails": 42, "distinct_answers": 43},
        "The naive checkout charged your customer 42 times for one order "
        "(€1,953.42 instead of €46.51). The protected one charged once and gave each "
        "of the 64 copies the same answer.",
    ),
    "money-and-mails": (
        "slow-killed",
        {"charges": 6, "mails": 3},
        "The naive checkout charged your customers 6 times for 4 orders (€279.06 "
        "instead of €186.04) and sent 3 mails for 4 orders. The protected one charged "
        "once for each of 4 orders and sent 4 mails for 4 orders.",
    ),
    "mails-alone": (
        "mail-twice",
        {"mails": 2, "distinct_answers": 2},
        "The naive checkout sent 2 mails for one order. The protected one sent one "
        "mail for one order and gave both copies the same answer.",
    ),
    "refunds": (
        "refund-twice",
        {"refunds": 2, "distinct_answers": 2},
        "The naive checkout gave the money back twice. The protected one gave the "
        "money back once and gave both copies the same answer.",
    ),
    "handled-too-often": (
        "same-event",
        {"handled": 20},
        "The naive webhook acted on the payment 20 times instead of once. "
        "The protected one acted on the payment once.",
    ),
    "never-handled": (
        "handler-fails",
        {"handled": 0},
        "The naive webhook never acted on the payment. "
        "The protected one acted on the payment once.",
    ),
    "nobody-charged": (
        "storm",
        {"charges": 0, "orders": 0, "mails": 0},
        "The naive checkout charged nobody and gave each of the 64 copies the same "
        "answer. The protected one charged once and gave each of the 64 copies the "
        "same answer.",
    ),
}


@cases("slug, wrong, words", SENTENCES)
def test_sentence_says_what_each_side_did(
    slug: str, wrong: dict[str, Any], words: str
) -> None:
    assert conclusion(ended(slug, **wrong), ended(slug), is_unprotected=False) == words


def test_repeats_are_counted_apart_from_copies_that_got_no_answer() -> None:
    naive = ended("answer-lost", charges=2, orders=2, mails=2, distinct_answers=2)
    protected = ended("answer-lost", requests=3, unanswered=1)

    words = conclusion(naive, protected, is_unprotected=False)

    assert "charged once and gave each repeat the same answer." in words


@cases(
    "naive, protected, last",
    {
        "luck": ({}, {}, "The naive one was lucky this time: press the button again."),
        "damage": (
            *({"charges": 2}, {"orders": 0, "mails": 0}),
            "As it should not be: 0 orders, not 1, 0 mails, not 1.",
        ),
    },
)
def test_luck_and_damage_are_not_glossed_over(
    naive: dict[str, int], protected: dict[str, int], last: str
) -> None:
    sides = ended("storm", **naive), ended("storm", **protected)

    assert conclusion(*sides, is_unprotected=False).endswith(last)


def test_answer_of_the_wrong_kind_is_no_same_answer() -> None:
    naive = ended("storm", charges=2, distinct_answers=2)
    refused = ended("storm", statuses=frozenset({409}))

    words = conclusion(naive, refused, is_unprotected=True)

    assert words.startswith("The protection has been taken off on purpose.")
    assert "same answer" not in words
    assert words.endswith("As it should not be: status 409, not 201.")


def test_what_was_not_played_shows_nothing() -> None:
    naive = replace(ended("storm"), not_played="The answer came too soon.")

    words = conclusion(naive, ended("storm"), is_unprotected=False)

    assert words == (
        "This did not happen as it should, so it shows nothing. "
        "The answer came too soon. Please press the button again."
    )
