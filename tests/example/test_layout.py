"""What a reader copies runs without what plays with it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

VISIT = """\
import django
django.setup()
from django.core.management import call_command
from django.test import Client
call_command("check")
call_command("migrate", verbosity=0)
pages = [Client(SERVER_NAME="localhost").get(path) for path in ("/shop/", "/lab/")]
print([page.status_code for page in pages])
"""


def test_shop_runs_without_the_theatre(tmp_path: Path) -> None:
    """Copied as the example's README says."""
    copy = tmp_path / "example_project"
    ignore = shutil.ignore_patterns("theatre", "__pycache__")
    shutil.copytree(ROOT / "example_project", copy, ignore=ignore)
    for file in (copy / "settings.py", copy / "urls.py"):
        lines = file.read_text("utf-8").splitlines(keepends=True)
        file.write_text("".join(line for line in lines if "theatre" not in line))

    visit = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", VISIT],
        cwd=tmp_path,
        env={
            **os.environ,
            "DATABASE_URL": f"sqlite:///{tmp_path}/shop.sqlite3",
            "DJANGO_SETTINGS_MODULE": "example_project.settings",
            "PYTHONPATH": str(ROOT),  # the package; the copy comes before it
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert visit.stdout.splitlines()[-1:] == ["[200, 404]"], visit.stderr
