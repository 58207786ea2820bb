"""The tests' settings with another user model, named by ``TESTS_USER_MODEL``."""

import os

from .settings import *  # noqa: F403 - all of them
from .settings import DATABASES, INSTALLED_APPS

AUTH_USER_MODEL = f"users.{os.environ.get('TESTS_USER_MODEL', 'UuidUser')}"
# Without what was migrated with users of another kind.
INSTALLED_APPS = [
    *(
        app
        for app in INSTALLED_APPS
        if app != "django.contrib.admin" and not app.startswith("example_project.")
    ),
    "tests.integration.keys.users",
]

# Beside the database of the run that has started this one.
DATABASES["default"]["TEST"] = {
    "NAME": f"{DATABASES['default']['NAME']}_{AUTH_USER_MODEL.lower().replace('.', '_')}"
}
