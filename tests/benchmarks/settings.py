"""Settings of the benchmarks: an ordinary project's middleware, and no log."""

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES

ROOT_URLCONF = "tests.benchmarks.shop"
DATABASES["default"]["CONN_MAX_AGE"] = None
LOGGING_CONFIG = None
