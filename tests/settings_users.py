"""The tests' settings with another user model, named by ``TESTS_USER_MODEL``."""

from __future__ import annotations

import os

from .settings import *  # noqa: F403 - all of them
from .settings import DATABASES, INSTALLED_APPS

AUTH_USER_MODEL = f"users.{os.environ.get('TESTS_USER_MODEL', 'UuidUser')}"
INSTALLED_APPS += ["tests.integration.users"]
for app in (
    # They were migrated with users of another kind.
    "django.contrib.admin",
    "example_project.checkout",
    "example_project.naive",
    # They know the models of these.
    "example_project.shop",
    "example_project.lab",
):
    INSTALLED_APPS.remove(app)

# Beside the database of the run that has started this one.
DATABASES["default"]["TEST"] = {
    "NAME": f"{DATABASES['default']['NAME']}_{AUTH_USER_MODEL.lower().replace('.', '_')}"
}
