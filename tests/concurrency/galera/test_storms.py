"""Copies that reach all nodes of a cluster at the same moment are one execution."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from django_idempotency.store import statements
from django_idempotency.store.dialects.galera import Galera
from tests.concurrency.galera.clients import (
    at_once,
    clients,
    execute,
)
from tests.concurrency.galera.shop import SENDS, scene
from tests.support.client import Answer, new_key

pytestmark = [
    pytest.mark.galera,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.concurrency.galera.shop"),
]

KEYS, COPIES = 40, 16
FEW_KEYS = 10
EVENTS = 120


@pytest.fixture(autouse=True)
def _fresh_scene() -> None:
    scene.reset()


def session_settings() -> tuple[tuple[Any, ...], ...]:
    return execute(
        "SHOW SESSION VARIABLES WHERE variable_name IN ('lock_wait_timeout',"
        " 'innodb_lock_wait_timeout', 'max_statement_time')"
        " OR variable_name LIKE 'wsrep%'"
    )


@dataclass
class Storm:
    """What has come of copies of many keys."""

    keys: list[str]
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    changed: list[Any] = field(default_factory=list)
    """The settings of sessions, where they aren't those that a new one has."""

    @property
    def statuses(self) -> Counter[int]:
        return Counter(each.status for key in self.keys for each in self.answers[key])

    @property
    def bodies(self) -> Counter[int]:
        """How many different answers there are to a key, and to how many keys."""
        different = ({each.body for each in self.answers[key]} for key in self.keys)
        return Counter(map(len, different))

    @property
    def begun(self) -> Counter[int]:
        """How often the work of a key has begun, and of how many keys."""
        return Counter(scene.begun[key] for key in self.keys)


def storm(
    shape: str,
    keys: int = KEYS,
    *,
    prepare: Callable[[Storm], None] = lambda found: None,
) -> Storm:
    found = Storm([new_key() for _ in range(keys)])
    prepare(found)
    with clients(COPIES) as crew, clients() as others:
        for key in found.keys:
            found.answers[key] = at_once(crew, partial(SENDS[shape], key))
        new = [each.do(session_settings) for each in others]
        for each in crew:
            if (settings := each.do(session_settings)) != new[each.node]:
                found.changed.append(settings)
    return found


def test_sessions_are_left_as_they_were() -> None:
    """Note [Statements that Galera tries again]: by those that commit themselves."""
    found = storm("inbox")

    assert found.statuses == {200: KEYS * COPIES}
    assert found.changed == []


# What these would show if something were missing


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Any], None]]:
    """Take a part of the dialect away."""
    caches = (statements.record_statements, statements.event_statements)

    def replace(name: str, by: Any) -> None:
        monkeypatch.setattr(Galera, name, by)
        for each in caches:
            each.cache_clear()

    yield replace
    monkeypatch.undo()
    for each in caches:
        each.cache_clear()


def test_control_statements_that_are_tried_again_leave_their_limits(
    without: Callable[[str, Any], None],
) -> None:
    without("first_limit", "")

    assert storm("inbox").changed
