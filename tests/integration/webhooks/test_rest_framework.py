"""The receiver as a view of REST framework behaves as the one of Django."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import NotReady, PermanentError
from django_idempotency.webhooks.inbox import Step, process_next
from tests.deliveries import deliver, stripe
from tests.integration.webhooks.events import states
from tests.integration.webhooks.receivers import scene
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.integration.webhooks.rest_receivers"),
]

BOTH = pytest.mark.parametrize("path", ["/django/", "/rest/"])


@BOTH
def test_event_is_handled_once(path: str) -> None:
    for _ in range(3):
        assert deliver(path, stripe()).status_code == 200
    assert scene.handled == ["evt_1"]
    assert Order.objects.count() == 1


@BOTH
def test_failures_are_answered_alike(path: str) -> None:
    scene.failures.extend([ValueError(), NotReady(), PermanentError()])
    answers = [deliver(path, stripe()) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [500, 503, 200, 200]
    assert answers[1]["Retry-After"] == "30"
    assert states() == {"evt_1": "dead"}
    assert Order.objects.count() == 0


@BOTH
def test_refusals_are_alike(path: str) -> None:
    assert deliver(path, stripe(secret="guess")).status_code == 401  # noqa: S106
    assert deliver(path, stripe(None)).status_code == 400
    assert deliver(path, stripe(note="x" * 1024 * 1024)).status_code == 413
    assert not ProcessedEvent.objects.exists()


@BOTH
def test_probes_are_alike(path: str) -> None:
    assert Client().get(path).status_code == 200
    assert Client().head(path).status_code == 200
    for method in ("put", "patch", "delete", "options"):
        assert getattr(Client(), method)(path).status_code == 405


@BOTH
def test_ignored_types_are_alike(path: str) -> None:
    assert deliver(path, stripe(type="other")).status_code == 200
    assert states() == {"evt_1": "ignored"}


@pytest.mark.parametrize("path", ["/rest/", "/strict/"])
def test_nothing_of_the_framework_stands_before_a_receiver(
    path: str, settings: Any
) -> None:
    settings.MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    answer = deliver(
        path,
        stripe(),
        Client(enforce_csrf_checks=True),
        HTTP_ACCEPT="application/unknown; version=9",
        HTTP_AUTHORIZATION="Basic !",
        query_params={"format": "unknown"},
    )
    assert answer.status_code == 200
    assert scene.handled == ["evt_1"]


def test_parsed_body_doesnt_use_the_raw_one_up() -> None:  # F20
    assert deliver("/curious/", stripe()).status_code == 200
    assert scene.handled == ["evt_1"]


def test_atomic_requests_doesnt_undo_what_is_noted() -> None:  # F7
    scene.failures.append(ValueError())
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        assert deliver("/rest/", stripe()).status_code == 500
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False
    assert states() == {"evt_1": "failed"}
    assert Order.objects.count() == 0


def test_inbox_is_found_by_its_worker() -> None:
    assert deliver("/stored/", stripe()).status_code == 200
    assert process_next() is Step.PROCESSED
    assert Order.objects.count() == 1
