"""Settings of the processes that the storms start: those of the tests, with receivers."""

from __future__ import annotations

from tests.settings import *  # noqa: F403

ROOT_URLCONF = "tests.concurrency.webhooks.receivers"
