"""``manage.py check`` on broken configurations: each has its id and its remedy."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import connection

from .messages import hint_in, ids_in
from .project import PAY, project

# SQLite has warnings of its own; what is checked without a connection is tested there by
# the other modules.
pytestmark = pytest.mark.postgresql

URL = os.environ.get("DATABASE_URL", "")


@dataclass(frozen=True, kw_only=True)
class Broken:
    """What is wrong with a project, and what is said about it."""

    settings: str = ""
    views: str = PAY
    view: str = "pay"
    says: str
    remedy: str


SQLITE = 'DATABASES["default"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}'

BROKEN = {
    "header-with-underscore": Broken(
        settings='IDEMPOTENCY_HEADER = "Idempotency_Key"',
        says="E001",
        remedy='IDEMPOTENCY_HEADER = "Idempotency-Key"',
    ),
    "header-as-in-meta": Broken(
        settings='IDEMPOTENCY_HEADER = "HTTP_IDEMPOTENCY_KEY"',
        says="E001",
        remedy='IDEMPOTENCY_HEADER = "Idempotency-Key"',
    ),
    "header-with-blank": Broken(
        settings='IDEMPOTENCY_HEADER = "Idempotency Key"',
        says="E001",
        remedy='IDEMPOTENCY_HEADER = "Idempotency-Key"',
    ),
    "replayed-header-with-underscore": Broken(
        settings='IDEMPOTENCY_REPLAYED_HEADER = "Idempotency_Replayed"',
        says="E002",
        remedy='IDEMPOTENCY_REPLAYED_HEADER = "Idempotency-Replayed"',
    ),
    "plain-number": Broken(
        settings="IDEMPOTENCY_WAIT = 5",
        says="E003",
        remedy="IDEMPOTENCY_WAIT = timedelta(seconds=5)",
    ),
    "zero-retention": Broken(
        settings="IDEMPOTENCY_RETENTION = timedelta(0)",
        says="E003",
        remedy="IDEMPOTENCY_RETENTION = timedelta(hours=48)",
    ),
    "short-retention": Broken(
        settings="IDEMPOTENCY_RETENTION = timedelta(hours=1)",
        says="W004",
        remedy="IDEMPOTENCY_RETENTION = timedelta(hours=48)",
    ),
    "missing-principal": Broken(
        settings='IDEMPOTENCY_PRINCIPAL = "shop.tenants.principal"',
        says="E005",
        remedy='IDEMPOTENCY_PRINCIPAL = "yourproject.idempotency.principal"',
    ),
    "misspelt-choice": Broken(
        settings='IDEMPOTENCY_ANONYMOUS = "forbid"',
        says="E006",
        remedy='IDEMPOTENCY_ANONYMOUS = "refuse"',
    ),
    "records-in-another-database": Broken(
        settings="""
            DATABASES["records"] = {**DATABASES["default"], "NAME": "records"}
            DATABASE_ROUTERS = ["shop.routers.RecordsElsewhere"]
        """,
        says="W010",
        remedy="    return 'default'",
    ),
    "unsupported-database": Broken(
        settings='DATABASES["default"] = {"ENGINE": "like_oracle"}',
        says="E011",
        remedy='"ENGINE": "django.db.backends.postgresql",',
    ),
    "sqlite-deferred": Broken(
        settings=SQLITE,
        says="W012",
        remedy='"OPTIONS": {"transaction_mode": "IMMEDIATE"},',
    ),
    "prepared-statements-behind-a-pooler": Broken(
        settings="""
            DATABASES["default"]["ENGINE"] = "django.db.backends.postgresql"
            DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"] = True
            DATABASES["default"]["OPTIONS"] = {"prepare_threshold": 5}
        """,
        says="W013",
        remedy="remove 'prepare_threshold'",
    ),
    "async-handler": Broken(
        views="""
            @method_decorator(idempotent, name="post")
            class Pay(View):
                async def post(self, request):
                    return HttpResponse()
        """,
        view="Pay.as_view()",
        says="E020",
        remedy="    def post(self, request):  # without async",
    ),
    "hidden-access-check": Broken(
        views="""
            def logged(view):
                return lambda request: view(request)

            @idempotent
            @logged
            @login_required
            def pay(request):
                return HttpResponse()
        """,
        says="E021",
        remedy="    @login_required\n    @idempotent\n",
    ),
    "durable-transaction-inside": Broken(
        views="""
            @idempotent
            @transaction.atomic(durable=True)
            def pay(request):
                return HttpResponse()
        """,
        says="E022",
        remedy="    @transaction.atomic  # not durable\n    def pay(request):",
    ),
    "keep-errors-on-a-plain-view": Broken(
        views="""
            @idempotent(keep_errors=True)
            def pay(request):
                return HttpResponse()
        """,
        says="E023",
        remedy="    return HttpResponse(status=404)",
    ),
    "short-retention-of-one-view": Broken(
        views="""
            @idempotent(retention=timedelta(minutes=5))
            def pay(request):
                return HttpResponse()
        """.replace("timedelta", "__import__('datetime').timedelta"),
        says="W024",
        remedy="    retention=timedelta(hours=48)",
    ),
    "atomic-requests-come-first": Broken(
        settings='DATABASES["default"]["ATOMIC_REQUESTS"] = True',
        views="""
            @method_decorator(idempotent, name="post")
            class Pay(View):
                def post(self, request):
                    return HttpResponse()
        """,
        view="Pay.as_view()",
        says="W025",
        remedy='    @method_decorator(idempotent, name="dispatch")\n    class Pay(…):',
    ),
    "transaction-above": Broken(
        views="""
            @transaction.atomic
            @idempotent
            def pay(request):
                return HttpResponse()
        """,
        says="W026",
        remedy="    @idempotent\n    def pay(request):",
    ),
}


def output_for(broken: Broken, folder: Path) -> str:
    return project(
        folder, URL, settings=broken.settings, views=broken.views, view=broken.view
    ).check()


@pytest.mark.parametrize("name", BROKEN)
def test_broken_configuration_has_its_id_and_its_remedy(
    name: str, tmp_path: Path
) -> None:
    broken = BROKEN[name]
    output = output_for(broken, tmp_path)

    assert (ids_in(output), broken.remedy in output) == (
        [f"django_idempotency.{broken.says}"],
        True,
    ), output


def test_right_configuration_has_nothing_to_be_said(tmp_path: Path) -> None:
    assert "no issues" in project(tmp_path, URL).check()


def test_project_without_models_of_its_own_has_nothing_to_be_said(
    tmp_path: Path,
) -> None:
    settings = 'INSTALLED_APPS.remove("shop")'

    assert "no issues" in project(tmp_path, URL, settings=settings).check()


def test_sqlite_has_nothing_to_be_said_when_it_is_asked(tmp_path: Path) -> None:
    ours = project(
        tmp_path,
        f"sqlite:///{tmp_path}/db.sqlite3",
        settings="""
            DATABASES["default"]["OPTIONS"] = {"transaction_mode": "IMMEDIATE"}
        """,
    )
    ours.manage("migrate")

    assert "no issues" in ours.check("--database", "default")


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, broken in BROKEN.items()
        if broken.says in ("E001", "E003", "W004")
    ],
)
def test_setting_pasted_from_the_hint_ends_the_message(
    name: str, tmp_path: Path
) -> None:
    broken = BROKEN[name]
    pasted = f"{broken.settings}\n{hint_in(output_for(broken, tmp_path))}\n"
    output = project(tmp_path, URL, settings=pasted).check()

    assert "django_idempotency" not in output


def test_option_pasted_from_the_hint_ends_the_message(tmp_path: Path) -> None:
    hint = hint_in(output_for(BROKEN["sqlite-deferred"], tmp_path))
    line = hint.rpartition("\n")[2].strip()
    pasted = SQLITE.replace("}", f", {line} }}")
    output = project(tmp_path, URL, settings=pasted).check()

    assert "no issues" in output


def test_decorator_pasted_from_the_hint_ends_the_message(tmp_path: Path) -> None:
    broken = BROKEN["atomic-requests-come-first"]
    line = hint_in(output_for(broken, tmp_path)).splitlines()[2].strip()
    views = broken.views.replace('@method_decorator(idempotent, name="post")', line)
    output = project(
        tmp_path, URL, settings=broken.settings, views=views, view=broken.view
    ).check()

    assert "no issues" in output


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


def as_administrator(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=urlsplit(URL).netloc).geturl()


def test_table_that_is_missing_has_its_id_and_its_remedy(
    new_database: str, tmp_path: Path
) -> None:
    output = project(tmp_path, new_database).check("--database", "default")

    assert (ids_in(output), hint_in(output)) == (
        ["django_idempotency.W014"],
        "python manage.py migrate django_idempotency --database default",
    )


def test_missing_table_does_not_keep_migrate_from_making_it(
    new_database: str, tmp_path: Path
) -> None:
    administrator = project(tmp_path, as_administrator(new_database))
    output = administrator.manage("migrate")

    assert "Applying django_idempotency.0001_initial... OK" in output


def test_plain_check_asks_no_database(tmp_path: Path) -> None:
    nowhere = urlsplit(URL)._replace(netloc="postgres@127.0.0.1:1").geturl()

    assert "no issues" in project(tmp_path, nowhere).check()


def test_pasted_remedies_make_a_new_database_ready(
    new_database: str, tmp_path: Path
) -> None:
    """The table is missing, then nothing bounds lost clients and no purge may delete."""
    administrator = project(tmp_path, as_administrator(new_database))
    migrate = hint_in(administrator.check("--database", "default"))
    administrator.manage(*migrate.split()[2:])
    ours = project(tmp_path, new_database)
    output = ours.check("--database", "default")
    run_in(new_database, STATEMENTS.findall(output))

    assert (ids_in(output), "no issues" in ours.check("--database", "default")) == (
        ["django_idempotency.W015", "django_idempotency.W016"],
        True,
    )


STATEMENTS = re.compile(r"^(?:\tHINT:)?\s*((?:ALTER|GRANT)\b.*;)$", re.MULTILINE)


def run_in(url: str, statements: list[str]) -> None:
    """Run statements as the administrator."""
    another = connection.copy()
    another.settings_dict["NAME"] = urlsplit(url).path.lstrip("/")
    with another.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    another.close()
