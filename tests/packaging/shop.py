"""A shop that somebody makes by the README's three steps."""

from __future__ import annotations

from dataclasses import dataclass

from .project import Project
from .readme import block

ALICE = ("alice", "wonderland")

# Only what the README takes for granted; its own blocks are copied from it.
FILES = {
    "orders/__init__.py": "",
    "orders/migrations/__init__.py": "",
    "orders/models.py": """
from django.db import models


class Order(models.Model):
    cart = models.IntegerField()
""",
    # Outside the database, so that a rollback does not hide a second charge.
    "orders/payments.py": """
from pathlib import Path


def charge(order, *, idempotency_key):
    with Path("charges").open("a") as charges:
        print(idempotency_key, file=charges)
""",
    "orders/serializers.py": """
from rest_framework.serializers import ModelSerializer

from .models import Order


class OrderSerializer(ModelSerializer):
    class Meta:
        model = Order
        fields = ["id", "cart"]
""",
    "shop/urls.py": """
from django.contrib import admin
from django.urls import include, path
from rest_framework.routers import DefaultRouter

from orders.api import OrderViewSet
from orders.views import checkout

router = DefaultRouter()
router.register("orders", OrderViewSet)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("checkout/", checkout),
    path("", include(router.urls)),
]
""",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop(Project):
    def make(self) -> None:
        self.start()
        for name, text in FILES.items():
            self.write(name, text)
        self.write("orders/views.py", block("code: views.py"))
        self.write("orders/api.py", block("code: api.py"))
        self.append(
            "shop/settings.py",
            'INSTALLED_APPS += ["orders", "rest_framework"]\n'
            + block("code: settings.py"),
        )
        self.manage("makemigrations", "orders")
        self.manage("migrate")
        name, password = ALICE
        self.manage(
            *("createsuperuser", "--noinput", "--username", name),
            *("--email", "alice@example.com"),
            env={"DJANGO_SUPERUSER_PASSWORD": password},
        )

    def charges(self) -> list[str]:
        """The keys of the charges that were made."""
        file = self.folder / "charges"
        return file.read_text().split() if file.exists() else []
