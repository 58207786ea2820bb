"""The demo's scenarios in words for a shop owner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from example_project.theatre.demo import scenarios, slow_scenarios, webhook_scenarios
from example_project.theatre.demo.browsers import Answer
from example_project.theatre.demo.endpoints import VIEW, Endpoint
from example_project.theatre.demo.scenarios import SCENARIOS, STORM, Play, Scenario
from example_project.theatre.demo.slow_scenarios import SLOW_SCENARIOS
from example_project.theatre.demo.webhook_scenarios import COPIES, WEBHOOK_SCENARIOS

__all__ = ["GROUPS", "STORIES", "Group", "Story"]

_SCENARIOS = {
    scenario.play: scenario
    for scenario in (*SCENARIOS, *WEBHOOK_SCENARIOS, *SLOW_SCENARIOS)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    slug: str
    #: What the button says.
    button: str
    #: What happens, before it does.
    plot: str
    #: Why the protected side comes through.
    moral: str
    #: The scenario's, by which it is found.
    play: Callable[[Play], Sequence[Answer | None]]

    @property
    def scenario(self) -> Scenario:
        return _SCENARIOS[self.play]

    @property
    def is_slow(self) -> bool:
        """Whether it is played at the shop with the slow payment provider."""
        return self.scenario in SLOW_SCENARIOS

    @property
    def protected(self) -> Endpoint:
        """The protected endpoint that it is played on: the plain view if that is one."""
        fit = [each for each in self.scenario.endpoints if each.protected]
        return VIEW if VIEW in fit else fit[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    title: str
    stories: tuple[Story, ...]


GROUPS = (
    Group(
        title="Try these first",
        stories=(
            Story(
                slug="storm",
                button=f"Send {STORM} copies",
                plot=f"One customer's payment arrives {STORM} times in the same instant.",
                moral="All copies carry the same key: the first does the work, "
                "the others get its answer.",
                play=scenarios.storm,
            ),
            Story(
                slug="answer-lost",
                button="Lose the answer",
                plot="The payment goes through, but its answer never reaches the "
                "browser, which sends the request again.",
                moral="The browser sends the key again with the retry, "
                "and gets the answer that it missed.",
                play=scenarios.answer_lost,
            ),
            Story(
                slug="worker-killed",
                button="Kill the worker",
                plot="The card is charged, and the server dies before it can write "
                "down the order. The customer tries again.",
                moral="The retry asks the payment provider with the same key, which "
                "gives back the first charge, and the order that was missing is made.",
                play=scenarios.worker_killed,
            ),
            Story(
                slug="same-event",
                button="Redeliver the webhook",
                plot="The payment provider reports one payment, and delivers the "
                f"report {COPIES} times at once.",
                moral="Each report has an id, which is stored together with what the "
                "shop does about it.",
                play=webhook_scenarios.same_event,
            ),
        ),
    ),
    Group(
        title="More at the checkout",
        stories=(
            Story(
                slug="double-click",
                button="Double-click Pay",
                plot="An impatient customer presses Pay twice.",
                moral="Both clicks carry the key that the page was made with, so they "
                "are one operation.",
                play=scenarios.double_click,
            ),
            Story(
                slug="other-cart",
                button="Reuse the key",
                plot="The same key comes with another cart, and then with the first "
                "one again.",
                moral="A key stands for one cart: the other one is refused with 422 "
                "instead of being paid by mistake.",
                play=scenarios.other_cart,
            ),
            Story(
                slug="two-users",
                button="Two customers, one key",
                plot="Two customers happen to send the same key, each of them twice.",
                moral="Each customer's keys are their own, and nobody sees the answer "
                "of another.",
                play=scenarios.two_users,
            ),
            Story(
                slug="refund-twice",
                button="Refund twice",
                plot="An order is paid, and its refund is asked for twice at once.",
                moral="The refund carries a key as well, and the second request gets "
                "the answer of the first.",
                play=scenarios.refund_twice,
            ),
            Story(
                slug="declined",
                button="Decline the card",
                plot="The bank declines the card, the customer tries it again, and then "
                "double-clicks with a new card.",
                moral="That the card was declined is an answer too, and is repeated; "
                "the new card is a new operation with its own key.",
                play=scenarios.declined,
            ),
        ),
    ),
    Group(
        title="More reports of the payment provider",
        stories=(
            Story(
                slug="handler-fails",
                button="Let the handler fail",
                plot="The shop stumbles over a report, and the provider delivers it "
                "again.",
                moral="What had failed was not noted as done, so the redelivery was "
                "welcome.",
                play=webhook_scenarios.handler_fails,
            ),
            Story(
                slug="handler-killed",
                button="Kill the handler",
                plot="The server dies while it acts on a report, and the provider "
                "delivers it again.",
                moral="The note that a report is done is saved with the work, or not "
                "at all.",
                play=webhook_scenarios.worker_killed,
            ),
            Story(
                slug="forged",
                button="Forge a report",
                plot="Somebody else reports a payment, and then the provider does.",
                moral="The forged report was refused by its signature, and left no "
                "trace.",
                play=webhook_scenarios.forged,
            ),
            Story(
                slug="too-early",
                button="Report too early",
                plot="The report of a payment arrives before the order exists.",
                moral="The shop asked the provider to come again, and was ready then.",
                play=webhook_scenarios.before_its_order,
            ),
            Story(
                slug="two-endpoints",
                button="Report to two departments",
                plot="Shipping and bookkeeping both get the same report, more than once.",
                moral="Each of the two remembers its own reports.",
                play=webhook_scenarios.two_endpoints,
            ),
            Story(
                slug="bad-item",
                button="Spoil one of three",
                plot="Three reports come in one delivery, and the shop stumbles over "
                "the second.",
                moral="The redelivery made up for the one that had failed, and did the "
                "others not again.",
                play=webhook_scenarios.bad_item,
            ),
        ),
    ),
    Group(
        title="When the payment takes seconds",
        stories=(
            Story(
                slug="slow-killed",
                button="Kill it at each step",
                plot="Four customers pay, and each one's server dies at another "
                "moment: before the charge, during it, after it, after the order.",
                moral="Each step that was done is remembered, and the retry goes on "
                "behind it.",
                play=slow_scenarios.killed_at_each_step,
            ),
            Story(
                slug="slow-answer-lost",
                button="Lose the provider's answer",
                plot="The card is charged, and the shop never hears of it.",
                moral="The shop says that it does not know, and the retry asks again "
                "with the same key.",
                play=slow_scenarios.answer_lost,
            ),
            Story(
                slug="held",
                button="Pay without keys",
                plot="A payment provider that knows no keys falls silent on two "
                "payments. One of them went through.",
                moral="Instead of guessing, the shop held both until a person had "
                "looked at the provider's list.",
                play=slow_scenarios.held,
            ),
            Story(
                slug="mail-twice",
                button="Mail it twice",
                plot="The mail server is down, and the task queue then delivers the "
                "mail's task twice.",
                moral="The task has a key too: that the mail was sent is remembered.",
                play=slow_scenarios.mail_task_twice,
            ),
        ),
    ),
)

STORIES = {story.slug: story for group in GROUPS for story in group.stories}
