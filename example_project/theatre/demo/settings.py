"""The shop's settings for the demo: as usual, plus workers that can be told to die."""

from __future__ import annotations

from datetime import timedelta

import django
import environ

from example_project.settings import *  # noqa: F403
from example_project.settings import MAIL_FOLDER, MIDDLEWARE

ROOT_URLCONF = environ.Env().str("DEMO_URLCONF", default="example_project.urls")

MIDDLEWARE = [*MIDDLEWARE, "example_project.theatre.demo.faults.fault_middleware"]
PAYMENT_PROVIDER = "example_project.theatre.demo.faults.MortalPayments"

# Above the three seconds that the slow provider takes, and no longer than the demo has to
# wait for what a killed worker has begun.
SHOP_LEASE = timedelta(seconds=4)

_MAIL_BACKEND = "example_project.theatre.demo.faults.FaultyMail"
if django.VERSION >= (6, 1):
    MAILERS = {
        "default": {"BACKEND": _MAIL_BACKEND, "OPTIONS": {"file_path": MAIL_FOLDER}}
    }
else:
    EMAIL_BACKEND = _MAIL_BACKEND

# They can be looked at in the shop.
SHOP_OUTBOX = MAIL_FOLDER

# Its customers are not real, and signing them in is not what the demo is about.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# All 64 copies shall get the answer, on a laptop that has other things to do as well.
IDEMPOTENCY_WAIT = timedelta(seconds=20)
