"""Settings of the processes that the storms start: those of the tests, with receivers."""

from tests.settings import *  # noqa: F403

ROOT_URLCONF = "tests.concurrency.webhooks.receivers"
