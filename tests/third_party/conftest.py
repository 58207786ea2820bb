"""These tests need packages and settings that no other row has: `tox run -e third_party`."""

from importlib.util import find_spec

from django.conf import settings

# Elsewhere the models of those packages are not installed.
if not settings.SETTINGS_MODULE.startswith("tests.third_party"):
    collect_ignore_glob = ["*"]
elif settings.SETTINGS_MODULE.endswith("moving.settings"):
    collect_ignore_glob = ["test_*.py", "tenants/*"]
elif settings.SETTINGS_MODULE.endswith("tenants.settings"):
    collect_ignore_glob = ["test_*.py", "moving/*"]
else:
    collect_ignore_glob = ["moving/*", "tenants/*"]
    if find_spec("django_tasks_db") is None:
        collect_ignore_glob.append("test_after_commit.py")
