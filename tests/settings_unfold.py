"""The tests' settings with django-unfold, for `tests/integration/admin/test_unfold.py`."""

from .settings import *  # noqa: F403 - all of them
from .settings import DATABASES, INSTALLED_APPS

# Must come before the admin whose templates it replaces.
INSTALLED_APPS.insert(0, "unfold")

# Beside the database of the run that has started this one.
DATABASES["default"]["TEST"] = {"NAME": f"{DATABASES['default']['NAME']}_unfold"}
