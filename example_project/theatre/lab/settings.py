"""The lab's settings: the demo's, without what lets a worker be killed by request."""

from __future__ import annotations

import environ

from example_project import settings as shop
from example_project.theatre.demo.settings import *  # noqa: F403

MIDDLEWARE = shop.MIDDLEWARE
PAYMENT_PROVIDER = shop.PAYMENT_PROVIDER

# Where the stage is; from `manage.py demo --serve`, which has built it.
LAB_STAGE = environ.Env().str("LAB_STAGE")
