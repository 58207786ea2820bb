"""What the documentation tells users of PgBouncer is what the tests run with."""

from __future__ import annotations

import re
from typing import Any

from tests import pgbouncer

from .readme import ROOT

PAGE = (ROOT / "docs" / "howto" / "deploy-on-postgresql.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Behind PgBouncer\n")[2].partition("\n## ")[0]


def _block(language: str) -> str:
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", SECTION, re.M | re.S)
    return str(block)


def test_settings_of_django_are_those_of_the_tests() -> None:  # FR-077
    databases: dict[str, dict[str, Any]] = {"default": {}}

    exec(_block("python"), {"DATABASES": databases})  # noqa: S102 - our own page

    assert databases["default"] == pgbouncer.DATABASE_SETTINGS


def test_settings_of_pgbouncer_are_those_of_the_tests() -> None:  # FR-077
    assert set(_block("ini").splitlines()) <= set(pgbouncer.CONFIGURATION.splitlines())
