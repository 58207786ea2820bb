"""Each tenant has a schema with records, orders and users of its own."""

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, MIDDLEWARE

DATABASES["default"]["ENGINE"] = "django_tenants.postgresql_backend"
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]

TENANT_MODEL = "tenants.Shop"
TENANT_DOMAIN_MODEL = "tenants.Domain"
SHARED_APPS = [
    "django_tenants",
    "tests.third_party.tenants",
    "django.contrib.contenttypes",
]
TENANT_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django_idempotency",
    "tests.testapp",
]
INSTALLED_APPS = [*SHARED_APPS, *TENANT_APPS[1:]]
MIDDLEWARE = [
    "django_tenants.middleware.main.TenantMainMiddleware",
    *[each for each in MIDDLEWARE if "messages" not in each],
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
ALLOWED_HOSTS = ["*"]
