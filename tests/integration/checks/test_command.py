"""A real ``manage.py check``; what else can be wrong is told in-process elsewhere."""

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import connection

from . import views
from .project import project

# SQLite has warnings of its own; what is checked without a connection is tested there by
# the other modules.
pytestmark = pytest.mark.postgresql

URL = os.environ.get("DATABASE_URL", "")
NOWHERE = urlsplit(URL)._replace(netloc="postgres@127.0.0.1:1").geturl()


def test_what_is_wrong_is_said_with_its_id_and_its_remedy(tmp_path: Path) -> None:
    """Of settings, databases and views: each group of checks is registered."""
    output = project(
        tmp_path,
        NOWHERE,
        settings="""
            IDEMPOTENCY_WAIT = 5
            DATABASES["records"] = {**DATABASES["default"], "NAME": "records"}
            DATABASE_ROUTERS = ["shop.routers.RecordsElsewhere"]
        """,
        durable=True,
    ).check()

    assert sorted(ids_in(output)) == [
        f"django_idempotency.{name}" for name in ("E003", "E022", "W010")
    ]
    for remedy in (
        "IDEMPOTENCY_WAIT = timedelta(seconds=5)",
        "    return 'default'",
        "    @transaction.atomic  # not durable\n    def pay(request):",
    ):
        assert remedy in output


def test_all_misplacements_are_named_with_their_remedies(tmp_path: Path) -> None:
    urls = "tests.integration.checks.views"
    settings = f'ROOT_URLCONF = "{urls}"'
    output = project(tmp_path, NOWHERE, settings=settings).check()

    count = len(views.WRONG)
    assert len(ids_in(output)) == output.count("HINT:") == count == 24


def test_right_configuration_has_nothing_to_be_said_and_no_database_is_asked(
    tmp_path: Path,
) -> None:
    assert "no issues" in project(tmp_path, NOWHERE).check()


def test_sqlite_has_nothing_to_be_said_when_it_is_asked(tmp_path: Path) -> None:
    ours = project(
        tmp_path,
        f"sqlite:///{tmp_path}/db.sqlite3",
        settings="""
            DATABASES["default"]["OPTIONS"] = {"transaction_mode": "IMMEDIATE"}
        """,
    )
    ours.manage("migrate", "django_idempotency")

    assert "no issues" in ours.check("--database", "default")


def ids_in(output: str) -> list[str]:
    """The ids in what ``manage.py check`` prints, other apps' included."""
    return re.findall(r"\((\w+\.[A-Z]\d{3})\)", output)


def hint_in(output: str) -> str:
    """The hint of the one message in what ``manage.py check`` prints."""
    (hint,) = re.findall(r"HINT: (.*?)\n\nSystem check", output, re.DOTALL)
    return str(hint)


@pytest.fixture
def new_database(transactional_db: None) -> Iterator[str]:
    """The URL of an empty database, for a role of its own that owns nothing in it."""
    name = f"checks_{uuid.uuid4().hex}"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {name} LOGIN")
        cursor.execute(f"CREATE DATABASE {name}")
        yield f"postgres://{name}@{urlsplit(URL).netloc.rpartition('@')[2]}/{name}"
        cursor.execute(f"DROP DATABASE {name}")
        cursor.execute(f"DROP ROLE {name}")


def test_pasted_remedies_make_a_new_database_ready(
    new_database: str, tmp_path: Path
) -> None:
    """The table is missing, then nothing bounds lost clients and no purge may delete."""
    netloc = urlsplit(URL).netloc
    as_administrator = urlsplit(new_database)._replace(netloc=netloc).geturl()
    administrator = project(tmp_path, as_administrator)
    missing = administrator.check("--database", "default")
    assert ids_in(missing) == ["django_idempotency.W014"]
    migrate = hint_in(missing).removeprefix("python manage.py ")
    assert migrate == "migrate django_idempotency --database default"
    assert "0001_initial... OK" in administrator.manage(*migrate.split())

    ours = project(tmp_path, new_database)
    output = ours.check("--database", "default")
    assert ids_in(output) == [
        "django_idempotency.W015",
        "django_idempotency.W016",
        "django_idempotency.W018",
    ]
    run_in(new_database, STATEMENTS.findall(output))
    assert "no issues" in ours.check("--database", "default")


STATEMENTS = re.compile(r"^(?:\tHINT:)?\s*((?:ALTER|GRANT)\b.*;)$", re.MULTILINE)


def run_in(url: str, statements: list[str]) -> None:
    """Run statements as the administrator."""
    another = connection.copy()
    another.settings_dict["NAME"] = urlsplit(url).path.lstrip("/")
    with another.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    another.close()
