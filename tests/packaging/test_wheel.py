"""The built distribution, in the hands of somebody who has only the README."""

from __future__ import annotations

import email
import tarfile
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

import django_idempotency

from .browser import Browser
from .readme import ROOT, block
from .shop import ALICE, Shop

pytestmark = pytest.mark.packaging


@pytest.fixture(scope="module")
def wheel_names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


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


def test_wheel_holds_the_whole_package(wheel_names: set[str]) -> None:
    package = ROOT / "django_idempotency"
    sources = {
        str(file.relative_to(ROOT))
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }

    assert {name for name in wheel_names if ".dist-info/" not in name} == sources


@pytest.mark.parametrize(
    "name",
    [
        "py.typed",
        "migrations/0001_initial.py",
        "models.py",
        "static/django_idempotency/idempotent-fetch.js",
    ],
)
def test_wheel_holds(wheel_names: set[str], name: str) -> None:
    assert f"django_idempotency/{name}" in wheel_names


@pytest.mark.parametrize(
    "name",
    [
        "LICENSE",
        "README.md",
        "docs/index.md",
        "example_project/devdb.py",
        "manage.py",
        "pyproject.toml",
        "tests/browser/client/keys.test.mjs",
        "tests/conftest.py",
        "tox.ini",
    ],
)
def test_sdist_holds_what_testing_it_takes(distributions: Path, name: str) -> None:
    (file,) = distributions.glob("*.tar.gz")

    with tarfile.open(file) as archive:
        assert f"{archive.getnames()[0].split('/')[0]}/{name}" in archive.getnames()


def test_metadata_names_version_license_and_requirements(metadata: Message) -> None:
    assert metadata["Version"] == django_idempotency.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.11"
    assert sorted(metadata.get_all("Requires-Dist", [])) == [
        "Django>=5.2",
        'cryptography>=42 ; extra == "crypto"',
        'djangorestframework>=3.16 ; extra == "drf"',
        'mysqlclient>=2.2.1 ; extra == "mariadb"',
        'psycopg>=3.2 ; extra == "postgres"',
        'standardwebhooks>=1 ; extra == "standardwebhooks"',
        'stripe>=8 ; extra == "stripe"',
    ]


def test_new_project_passes_djangos_checks(shop: Shop) -> None:
    """But for the advice that every new project on SQLite gets."""
    settings = ["--fail-level", "DEBUG", "--tag"]

    assert "no issues" in shop.manage("check", *settings, "urls")
    assert "no issues" in shop.manage("check", *settings, "models")
    shop.manage("check", "--fail-level", "ERROR")


def test_second_post_to_the_decorated_view_replays(shop: Shop, address: str) -> None:
    alice = Browser(address)
    alice.sign_in(*ALICE)
    key = {"Idempotency-Key": "d3b07384-d113-4ec6-a5ea-6cf2e9a7b1c4"}
    charges_before = shop.charges()

    first = alice.post("/checkout/", {"cart": "7"}, key)
    second = alice.post("/checkout/", {"cart": "7"}, key)

    assert (first.status, second.status) == (201, 201)
    assert first.headers["Idempotency-Replayed"] is None
    assert second.headers["Idempotency-Replayed"] == "true"
    assert first.body == second.body
    assert len(shop.charges()) == len(charges_before) + 1


def test_login_is_asked_before_a_replay(address: str) -> None:
    alice, guest = Browser(address), Browser(address)
    alice.sign_in(*ALICE)
    guest.get("/admin/login/")
    key = {"Idempotency-Key": "6b86b273-ff34-4ce1-9d6b-804eff5a3f57"}
    order = alice.post("/checkout/", {"cart": "7"}, key)

    answer = guest.post("/checkout/", {"cart": "7"}, key)

    assert order.status == 201
    assert answer.status == 302
    assert answer.headers["Location"].startswith("/accounts/login/")


def test_the_two_curls_get_one_order(address: str) -> None:
    client = Browser(address)

    first = client.curl(block("code: first curl"))
    second = client.curl(block("code: second curl"))

    assert block("code: first curl") == block("code: second curl")
    assert (first.status, second.status) == (201, 201)
    assert first.json["cart"] == 7
    assert first.json == second.json
    assert first.headers["Idempotency-Replayed"] is None
    assert second.headers["Idempotency-Replayed"] == "true"


def test_post_without_a_key_is_refused(address: str) -> None:
    browser = Browser(address)
    browser.sign_in(*ALICE)

    answer = browser.post("/checkout/", {"cart": "7"})

    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["code"] == "key-missing"


def test_purge_ends_with_its_count(shop: Shop) -> None:
    output = shop.manage("purge_idempotency_keys")

    assert (
        output.splitlines()[-1] == "Purged 0 idempotency records, 0 processed events."
    )
