"""The settings of the tests, and what the packages ask for beside.

The row of the oldest neighbours has only those of them that are neighbours.
"""

from importlib.util import find_spec

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS = [*INSTALLED_APPS, "graphene_django", "ninja_extra"]

if find_spec("allauth") is not None:
    INSTALLED_APPS += [
        "allauth",
        "allauth.account",
        "django_htmx",
        "guardian",
        "inertia",
    ]
    MIDDLEWARE = [
        *MIDDLEWARE,
        "allauth.account.middleware.AccountMiddleware",
        "django_htmx.middleware.HtmxMiddleware",
        "inertia.middleware.InertiaMiddleware",
    ]
    AUTHENTICATION_BACKENDS = [
        "django.contrib.auth.backends.ModelBackend",
        "guardian.backends.ObjectPermissionBackend",
        "rules.permissions.ObjectPermissionBackend",
    ]
    ACCOUNT_EMAIL_VERIFICATION = "none"
    INERTIA_LAYOUT = "inertia.html"

if find_spec("django_tasks_db") is not None:  # needs Django 6
    INSTALLED_APPS.append("django_tasks_db")
    TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
