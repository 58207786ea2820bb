"""Settings of the benchmark: nothing but what is measured."""

from __future__ import annotations

from tests.benchmarks.settings import *  # noqa: F403

ROOT_URLCONF = "tests.benchmarks.webhooks.receivers"
MIDDLEWARE = []
