"""What browsers load is found and collected with the app; there is nothing else to do."""

from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
from django.core.files.storage import storages
from django.core.management import call_command
from django.test import override_settings

import django_idempotency

NAME = "django_idempotency/idempotent-fetch.js"
SOURCE = Path(django_idempotency.__file__).parent / "static" / NAME


class WithHashedImports(ManifestStaticFilesStorage):
    support_js_module_import_aggregation = True


@pytest.mark.parametrize("word", ["import ", "import(", "eval(", "sourceMappingURL"])
def test_library_is_one_file_that_a_strict_policy_allows(word: str) -> None:
    assert word not in SOURCE.read_text(encoding="utf-8")


@pytest.mark.parametrize("storage", [ManifestStaticFilesStorage, WithHashedImports])
def test_library_is_collected_with_its_hash(tmp_path: Path, storage: type) -> None:
    page = tmp_path / "source" / "shop" / "pay.js"
    page.parent.mkdir(parents=True)
    page.write_text(
        'import { idempotentFetch } from "../django_idempotency/idempotent-fetch.js";'
    )
    backend = f"{storage.__module__}.{storage.__qualname__}"
    with override_settings(
        INSTALLED_APPS=["django.contrib.staticfiles", "django_idempotency"],
        STATIC_ROOT=tmp_path / "collected",
        STATIC_URL="/static/",
        STATICFILES_DIRS=[tmp_path / "source"],
        STORAGES={"staticfiles": {"BACKEND": backend}},
    ):
        finders.get_finder.cache_clear()  # type: ignore[attr-defined]
        call_command("collectstatic", interactive=False, verbosity=0)
        collected = storages["staticfiles"]
        assert isinstance(collected, ManifestStaticFilesStorage)
        library = Path(collected.path(collected.stored_name(NAME)))
        pay = Path(collected.path(collected.stored_name("shop/pay.js")))
    finders.get_finder.cache_clear()  # type: ignore[attr-defined]

    assert finders.find(NAME) == str(SOURCE)
    assert library.name != SOURCE.name
    assert library.read_bytes() == SOURCE.read_bytes()
    assert (library.name in pay.read_text()) is (storage is WithHashedImports)
