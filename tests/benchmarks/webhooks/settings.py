"""Settings of the benchmark: nothing but what is measured."""

from __future__ import annotations

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

ROOT_URLCONF = "tests.benchmarks.webhooks.receivers"
MIDDLEWARE = []
DATABASES["default"]["CONN_MAX_AGE"] = None
LOGGING_CONFIG = None
