"""The same under django-unfold, which brings its own scripts and styles."""

from .settings import *  # noqa: F403 - all of them
from .settings import INSTALLED_APPS, MIDDLEWARE

INSTALLED_APPS = ["unfold", *INSTALLED_APPS]
MIDDLEWARE = MIDDLEWARE[1:]
