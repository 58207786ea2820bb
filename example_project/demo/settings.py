"""The shop's settings for the demo: as ever, plus workers that can be told to die."""

from __future__ import annotations

from datetime import timedelta

import environ

from example_project.settings import *  # noqa: F403
from example_project.settings import MIDDLEWARE

ROOT_URLCONF = environ.Env().str("DEMO_URLCONF", default="example_project.urls")

MIDDLEWARE = [*MIDDLEWARE, "example_project.demo.faults.fault_middleware"]
PAYMENT_PROVIDER = "example_project.demo.faults.MortalPayments"

# All 64 copies shall get the answer, on a laptop that has other things to do as well.
IDEMPOTENCY_WAIT = timedelta(seconds=20)
