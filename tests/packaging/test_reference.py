"""The reference in ``docs/`` lists what the code has, no more and no less."""

import re
from argparse import ArgumentParser
from dataclasses import fields
from importlib import import_module
from inspect import signature
from pkgutil import iter_modules
from typing import Any

import pytest
from _pytest.fixtures import FixtureFunctionDefinition
from django.apps import apps
from django.db.models import Model

from django_idempotency import conf, testing
from django_idempotency.contrib.opentelemetry import metrics as opentelemetry
from django_idempotency.contrib.prometheus import metrics as prometheus
from django_idempotency.engine.measuring import DECIDED, MEASURED, READ
from django_idempotency.http import problems
from django_idempotency.management import commands
from django_idempotency.models import (
    HourlyCount,
    IdempotencyRecord,
    OperationIntent,
    OperationLink,
    ProcessedEvent,
)
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.webhooks import Event
from django_idempotency.webhooks.endpoints import Endpoint

from .readme import ROOT

# Modules whose ``__all__`` is for users.
PUBLIC_MODULES = [
    "contrib.admin",
    "contrib.prometheus.metrics",
    "contrib.fernet",
    "contrib.httpx",
    "contrib.requests",
    "contrib.retries",
    "contrib.moving",
    "decorators",
    "exceptions",
    "http",
    "middleware",
    "models",
    "policies",
    "rest_framework",
    "signals",
    "tasks",
    "testing",
    "testing.factories",
    "testing.rest_framework",
    "webhooks",
    "webhooks.deliveries",
    "webhooks.inbox",
    "webhooks.rest_framework",
]
MODELS: tuple[type[Model], ...] = (
    IdempotencyRecord,
    OperationIntent,
    OperationLink,
    ProcessedEvent,
    HourlyCount,
)
COMMANDS = [module.name for module in iter_modules(commands.__path__)]


def _page(name: str) -> str:
    return (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")


def _sections(name: str, heading: str) -> dict[str, str]:
    """The text under each second-level heading that is code and matches, by its group."""
    return dict(
        re.findall(
            rf"^## `{heading}`$(.*?)(?=^## |\Z)", _page(name), re.MULTILINE | re.DOTALL
        )
    )


def _names_in_first_column(page: str) -> set[str]:
    return set(re.findall(r"^\| `([^` ]+)[^|]* \|", page, re.MULTILINE))


def test_settings() -> None:
    documented = re.findall(r"^### `(IDEMPOTENCY_\w+)`$", _page("settings.md"), re.M)
    existing = [name for name in dir(conf.Settings) if name.startswith("IDEMPOTENCY_")]

    assert sorted(documented) == existing


def test_headers_that_are_not_replayed() -> None:
    page = _page("settings.md")

    assert [
        each for each in conf.DEFAULT_HEADER_DENY_LIST if f"`{each}`" not in page
    ] == []


def test_policy() -> None:
    assert _names_in_first_column(_page("policy.md")) == _fields(IdempotencyPolicy)


def test_problems() -> None:
    documented = re.findall(r"^## (\S+)\n\n\*\*(\d+)\b", _page("problems.md"), re.M)
    existing = [
        (problem.code, str(problem.status))
        for problem in vars(problems).values()
        if isinstance(problem, problems.Problem)
    ]

    assert sorted(documented) == sorted(existing)
    assert conf.conf.IDEMPOTENCY_PROBLEM_BASE_URL.endswith("/reference/problems.html#")


def test_what_programs_may_do() -> None:
    rows = re.findall(
        r"^\| `([a-z-]+)` \| [^|]+ \| (.*) \|$", _page("problems.md"), re.M
    )
    documented = {
        code: retry
        for retry, codes in rows
        for code in re.findall(r"\(#(.+?)\)", codes)
    }

    assert documented == problems.RETRY


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_public_names(module: str) -> None:
    page = "testing.md" if module.startswith("testing") else "names.md"
    sections = _sections(page, r"django_idempotency\.([\w.]+)")
    existing = set(import_module(f"django_idempotency.{module}").__all__)

    documented = set(re.findall(r"^### `(\w+)`$", sections[module], re.MULTILINE))

    assert documented == existing


def test_fixtures_and_options_of_the_plugin() -> None:
    plugin = import_module("django_idempotency.testing.pytest_plugin")
    fixtures = {
        name
        for name, value in vars(plugin).items()
        if isinstance(value, FixtureFunctionDefinition) and not name.startswith("_")
    }
    [section] = re.findall(
        r"^## The plugin for pytest$(.*?)(?=^##)", _page("testing.md"), re.M | re.S
    )

    assert _names_in_first_column(section) == fixtures | {plugin.OPTION}


@pytest.mark.parametrize(
    "name",
    [
        "assert_handler_safe",
        "assert_idempotent",
        "crash_everywhere",
        "deliver",
        "hammer",
    ],
)
def test_options_of_tools_for_tests(name: str) -> None:
    parameters = signature(getattr(testing, name)).parameters.values()
    [section] = re.findall(
        rf"^### `{name}`$(.*?)(?=^##)", _page("testing.md"), re.M | re.S
    )

    assert _names_in_first_column(section) == {
        each.name for each in parameters if each.kind is each.KEYWORD_ONLY
    }


LIBRARY = ROOT / "django_idempotency/static/django_idempotency/idempotent-fetch.js"


def test_names_in_javascript() -> None:
    source = LIBRARY.read_text(encoding="utf-8")
    exported = re.findall(r"^export (?:async )?function (\w+)", source, re.MULTILINE)
    sections = _sections("names.md", r"django_idempotency/([\w-]+)\.js")

    documented = re.findall(r"^### `(\w+)`$", sections["idempotent-fetch"], re.M)

    assert sorted(documented) == sorted(exported)
    assert len(exported) == len(re.findall(r"^export\b", source, re.MULTILINE))


def test_options_in_javascript() -> None:
    source = LIBRARY.read_text(encoding="utf-8")
    options = re.findall(r"^ \* @property \{\w+\} \[?(\w+)", source, re.MULTILINE)

    assert _names_under("idempotentFetch") == set(options)


def _names_under(name: str) -> set[str]:
    """What the tables below one name of names.md have in their first column."""
    [section] = re.findall(
        rf"^### `{name}`$(.*?)(?=^##)", _page("names.md"), re.MULTILINE | re.DOTALL
    )
    return _names_in_first_column(section)


def test_options_of_webhooks() -> None:
    # What the decorator gets in another way, or makes itself.
    others = {"name", "profile", "handler", "handles"}

    assert _names_under("webhook") == _fields(Endpoint) - others | {"endpoint"}


def test_attributes_of_events() -> None:
    assert _names_under("Event") == _fields(Event)


def test_fields_and_states_of_stored_events() -> None:
    columns = {field.name for field in ProcessedEvent._meta.get_fields()}

    assert _names_under("ProcessedEvent") == columns | set(ProcessedEvent.State.values)


def test_metrics() -> None:
    documented = re.findall(
        r"^\| `(\w+)` \| `([\w.]+)` \| (\w+) \| (.*?) \| (\w+) \| (.*) \|$",
        _page("metrics.md"),
        re.MULTILINE,
    )
    existing = [
        (
            prometheus.name_of(each) + ("_total" if each.kind == "counter" else ""),
            opentelemetry.name_of(each),
            each.kind,
            ", ".join(f"`{label}`" for label in each.labels),
            "s" if each.is_time else "1",
            each.told,
        )
        for each in (*MEASURED, *READ)
    ]

    assert documented == existing


def test_outcomes_of_metrics() -> None:
    assert _names_in_first_column(_page("metrics.md")) >= {*DECIDED}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_page_of_what_is_stored_lists_each_column_once(model: type[Model]) -> None:
    page = (ROOT / "docs/howto/what-is-stored.md").read_text(encoding="utf-8")
    [section] = re.findall(
        rf"^### `{model.__name__}`$(.*?)(?=^##|\Z)", page, re.M | re.S
    )
    rows = re.findall(r"^\|((?: `\w+`,?)+) \|(.*)\|$", section, re.M)
    listed = [name for names, _ in rows for name in re.findall(r"`(\w+)`", names)]

    assert sorted(listed) == sorted(each.name for each in model._meta.get_fields())
    # What it tells, who sees it, and what takes it away.
    assert {len(rest.split("|")) for _, rest in rows} == {3}


def test_page_of_what_is_stored_knows_each_table() -> None:
    assert {*apps.get_app_config("django_idempotency").get_models()} == {*MODELS}


def _fields(of: Any) -> set[str]:
    return {field.name for field in fields(of)}


def test_commands() -> None:
    assert sorted(_sections("commands.md", r"(\w+)")) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_options_of_commands(name: str) -> None:
    command = import_module(f"{commands.__name__}.{name}").Command()
    ours = ArgumentParser(add_help=False)
    command.add_arguments(ours)
    existing = {
        action.option_strings[0] if action.option_strings else action.metavar
        for action in ours._actions
    }

    section = _sections("commands.md", r"(\w+)")[name]
    documented = {
        each
        for each in _names_in_first_column(section)
        if each.startswith("--") or each.isupper()
    }

    assert documented == existing


def test_checks() -> None:
    sources = (ROOT / "django_idempotency" / "checks").glob("*.py")
    ids = re.compile(r"django_idempotency\.(?:[EW]\d{3}|\{number\})")
    numbers = re.compile(r'"([EW]\d{3})"')
    existing = set()
    for source in sources:
        text = source.read_text(encoding="utf-8")
        existing |= {each for each in ids.findall(text) if "{" not in each}
        existing |= {f"django_idempotency.{each}" for each in numbers.findall(text)}

    documented = _names_in_first_column(_page("checks.md"))

    assert documented == existing
