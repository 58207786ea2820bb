"""Settings of the servers that are kept busy: no middleware, and a pool if wanted."""

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, env

ROOT_URLCONF = "tests.faults.traffic_shop"
MIDDLEWARE = []

POOL_VARIABLE = "TRAFFIC_POOL"
"""Environment variable: how many connections each process has, at most."""

if size := env.int(POOL_VARIABLE, default=0):
    options = DATABASES["default"].setdefault("OPTIONS", {})
    options["pool"] = {"min_size": 1, "max_size": size, "timeout": 60}
