"""A small project in a folder of its own, checked by a real ``manage.py check``."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

REPOSITORY = Path(__file__).resolve().parents[3]

SETTINGS = """\
from datetime import timedelta
import environ

SECRET_KEY = "checks-only"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django_idempotency",
    "shop",
]
DATABASES = {"default": environ.Env().db("DATABASE_URL")}
"""

MODELS = """\
from django.db import models

class Order(models.Model):
    pass
"""

URLS = """\
from django.db import transaction
from django.http import HttpResponse
from django.urls import path
from django_idempotency.decorators import idempotent

@idempotent
@transaction.atomic(durable={durable})
def pay(request):
    return HttpResponse()

urlpatterns = [path("pay/", pay)]
"""

ROUTERS = """\
class RecordsElsewhere:
    def db_for_write(self, model, **hints):
        if model._meta.app_label == "django_idempotency":
            return "records"
"""


@dataclass(frozen=True)
class Project:
    folder: Path
    database_url: str

    def check(self, *arguments: str) -> str:
        """Return all that ``manage.py check`` prints."""
        return self.manage("check", *arguments)

    def manage(self, *arguments: str) -> str:
        environment = {
            **os.environ,
            "DATABASE_URL": self.database_url,
            "DJANGO_SETTINGS_MODULE": "shop_settings",
            "PYTHONPATH": os.pathsep.join([str(self.folder), str(REPOSITORY)]),
        }
        done = subprocess.run(  # noqa: S603 - our own arguments
            [sys.executable, "-m", "django", *arguments],
            capture_output=True,
            check=False,
            env=environment,
            text=True,
            timeout=60,
        )
        return done.stdout + done.stderr


def project(
    folder: Path, database_url: str, *, settings: str = "", durable: bool = False
) -> Project:
    """Write a project that is right but for what is given here."""
    shop = folder / "shop"
    shop.mkdir(exist_ok=True)
    (folder / "shop_settings.py").write_text(f"{SETTINGS}{dedent(settings)}")
    (shop / "__init__.py").touch()
    (shop / "models.py").write_text(MODELS)
    (shop / "routers.py").write_text(ROUTERS)
    (shop / "urls.py").write_text(URLS.format(durable=durable))
    return Project(folder, database_url)
