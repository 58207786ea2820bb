"""The built distribution, in the hands of somebody who has only the README."""

import email
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest

import django_idempotency

from .browser import Browser
from .project import Project
from .readme import ROOT, block

SDIST_HOLDS = {
    "LICENSE",
    "README.md",
    "docs/index.md",
    "example_project/theatre/devdb.py",
    "manage.py",
    "pyproject.toml",
    "tests/browser/client/keys.test.mjs",
    "tests/conftest.py",
    "tests/support/servers/postgresql.py",
    "tox.ini",
}


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


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    version = django_idempotency.__version__
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"django_idempotency-{version}.dist-info/METADATA")
    return email.message_from_bytes(text)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, python: Path) -> Shop:
    shop = Shop(folder=tmp_path_factory.mktemp("shop"), python=python)
    shop.make()
    return shop


@pytest.fixture(scope="module")
def address(shop: Shop) -> Iterator[str]:
    with shop.serve() as address:
        yield address


def test_wheel_holds_the_whole_package(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    package = ROOT / "django_idempotency"
    sources = {
        str(file.relative_to(ROOT))
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }

    assert "django_idempotency/locale/de/LC_MESSAGES/django.mo" in sources
    assert "django_idempotency/py.typed" in sources
    assert {name for name in names if ".dist-info/" not in name} == sources


def test_wheel_names_its_plugin_for_pytest(wheel: Path) -> None:
    version = django_idempotency.__version__
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"django_idempotency-{version}.dist-info/entry_points.txt")

    assert text.decode().split() == [
        "[pytest11]",
        "django_idempotency=django_idempotency.testing.pytest_plugin",
    ]


def test_sdist_holds_what_testing_it_takes(distributions: Path) -> None:
    (file,) = distributions.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert SDIST_HOLDS - names == set()


def test_metadata_names_version_license_and_requirements(metadata: Message) -> None:
    assert metadata["Version"] == django_idempotency.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.11"
    assert sorted(metadata.get_all("Requires-Dist", [])) == [
        "Django>=5.2",
        'cryptography>=42 ; extra == "crypto"',
        'django-ninja>=1.5 ; extra == "ninja"',
        'djangorestframework>=3.16 ; extra == "drf"',
        'factory-boy>=3.3.1 ; extra == "testing"',
        'httpx>=0.27 ; extra == "httpx"',
        'mysqlclient>=2.2.1 ; extra == "mariadb"',
        'opentelemetry-api>=1.30 ; extra == "opentelemetry"',
        'prometheus-client>=0.20 ; extra == "prometheus"',
        'psycopg>=3.2 ; extra == "postgres"',
        'requests>=2.32 ; extra == "requests"',
        'standardwebhooks>=1 ; extra == "standardwebhooks"',
        'stripe>=8 ; extra == "stripe"',
        'urllib3>=2 ; extra == "requests"',
    ]


def test_new_project_passes_djangos_checks(shop: Shop) -> None:
    """But for the advice that every new project on SQLite gets."""
    settings = ["--fail-level", "DEBUG", "--tag"]

    assert "no issues" in shop.manage("check", *settings, "urls")
    assert "no issues" in shop.manage("check", *settings, "models")
    shop.manage("check", "--fail-level", "ERROR")


def test_second_post_to_the_decorated_view_replays_behind_its_login(
    shop: Shop, address: str
) -> None:
    alice, guest = Browser(address), Browser(address)
    alice.sign_in(*ALICE)
    guest.get("/admin/login/")
    key = {"Idempotency-Key": "d3b07384-d113-4ec6-a5ea-6cf2e9a7b1c4"}
    charges_before = shop.charges()

    first, second = (alice.post("/checkout/", {"cart": "7"}, key) for _ in range(2))
    of_guest = guest.post("/checkout/", {"cart": "7"}, key)
    without_key = alice.post("/checkout/", {"cart": "7"})

    assert (first.status_code, second.status_code) == (201, 201)
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert first.content == second.content
    assert len(shop.charges()) == len(charges_before) + 1
    assert of_guest.status_code == 302
    assert of_guest.headers["Location"].startswith("/accounts/login/")
    assert without_key.status_code == 400
    assert without_key.headers["Content-Type"] == "application/problem+json"
    assert without_key.json()["code"] == "key-missing"


def test_the_two_curls_get_one_order(address: str) -> None:
    client = Browser(address)

    first = client.curl(block("code: first curl"))
    second = client.curl(block("code: second curl"))

    assert block("code: first curl") == block("code: second curl")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["cart"] == 7
    assert first.json() == second.json()
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"


def test_purge_ends_with_its_count(shop: Shop) -> None:
    output = shop.manage("purge_idempotency_keys")

    assert (
        output.splitlines()[-1] == "Purged 0 idempotency records, 0 processed events."
    )
