"""The lab's buttons are the demo's scenarios."""

from __future__ import annotations

from example_project.demo.scenarios import SCENARIOS
from example_project.demo.slow_scenarios import SLOW_SCENARIOS
from example_project.demo.webhook_scenarios import WEBHOOK_SCENARIOS
from example_project.lab.stories import GROUPS, STORIES


def test_each_scenario_of_the_demo_has_one_button() -> None:
    told = [story.scenario.name for group in GROUPS for story in group.stories]
    played = [*SCENARIOS, *WEBHOOK_SCENARIOS, *SLOW_SCENARIOS]

    assert sorted(told) == sorted(scenario.name for scenario in played)
    assert len(STORIES) == len(told)


def test_each_story_is_played_on_an_endpoint_of_its_scenario() -> None:
    for story in STORIES.values():
        assert story.protected.protected
        assert story.protected in story.scenario.endpoints
