"""Settings of the example shop; what differs by place comes from the environment."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import django
import environ

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()

DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default="only-good-for-your-own-machine")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"

INSTALLED_APPS = [
    "example_project.shop",  # before those whose templates it brings its own of
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "django_idempotency",
    "example_project.checkout",
    # The theatre, which is not meant to be copied.
    "example_project.theatre.naive",
    "example_project.theatre.demo",
    "example_project.theatre.lab",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    (
        "django.middleware.csp.ContentSecurityPolicyMiddleware"
        if django.VERSION >= (6, 0)
        else "example_project.shop.csp.content_security_policy"
    ),
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # The project's own pages in place of an app's.
        "DIRS": [BASE_DIR / "example_project" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- Database

if "DATABASE_URL" in env:
    DATABASES = {"default": env.db("DATABASE_URL")}
else:
    # The theatre's PostgreSQL, started by the first connection.
    DATABASES = {
        "default": {
            "ENGINE": "example_project.theatre.devdb_backend",
            "NAME": "postgres",
            "USER": "postgres",
        }
    }

if DATABASES["default"]["ENGINE"].endswith(("postgresql", "devdb_backend")):
    DATABASES["default"] |= {
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        # A key is freed when its transaction ends. A killed process ends it at once,
        # but a stopped one, a lost host or a cut network only through these: without
        # them such a key, and the cart's lock with it, stays taken for ever. The first
        # must be longer than the slowest view waits for the payment provider.
        "OPTIONS": {
            "options": "-c idle_in_transaction_session_timeout=60s "
            "-c tcp_user_timeout=30s "
            # Behind an ALTER TABLE that waits, requests would queue for ever.
            "-c lock_timeout=10s"
        },
    }

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Who is asking

LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "/"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication"
    ],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}

# Behind TLS set HTTPS=on; cookies marked secure would never come back without it.
HTTPS = env.bool("HTTPS", default=False)
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "example_project.shop.views.csrf_failure"

# Scripts and styles come from our own files, and nothing stands in the pages themselves.
SECURE_CSP = {
    "default-src": ["'self'"],
    "base-uri": ["'none'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
    "object-src": ["'none'"],
}

# --- Static files

# WhiteNoise serves them beside the pages, with any server and without a build.
STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True

# --- The lab of the theatre

# Where `manage.py demo --serve` has opened it; it is another server than the shop's.
LAB_URL = env.str("LAB_URL", default="")

# --- Payments

# The gateway in example_project/theatre/gateway, or any server that speaks Stripe's API.
STRIPE_API_BASE = env.str("STRIPE_API_BASE", default="http://127.0.0.1:8421")
STRIPE_API_KEY = env.str("STRIPE_API_KEY", default="sk_test_example")
PAYMENT_PROVIDER = "example_project.checkout.stripe_payments.StripePayments"

# How long a request has to itself an order that it pays for outside of any transaction:
# above the slowest answer of the provider, since what outlives it is taken over.
SHOP_LEASE = timedelta(minutes=1)

# What the providers sign their webhooks with: the newest first, then the one before it
# for as long as deliveries signed with it may come.
STRIPE_WEBHOOK_SECRETS = env.list(
    "STRIPE_WEBHOOK_SECRETS", default=["whsec_only-good-for-your-own-machine"]
)
GOCARDLESS_WEBHOOK_SECRETS = env.list(
    "GOCARDLESS_WEBHOOK_SECRETS", default=["only-good-for-your-own-machine"]
)

# --- Mail

# To files in this folder, else to the terminal.
MAIL_FOLDER = env.str("MAIL_FOLDER", default="")
MAIL_BACKEND = "django.core.mail.backends." + (
    "filebased.EmailBackend" if MAIL_FOLDER else "console.EmailBackend"
)
if django.VERSION >= (6, 1):
    MAILERS = {
        "default": {
            "BACKEND": MAIL_BACKEND,
            "OPTIONS": {"file_path": MAIL_FOLDER} if MAIL_FOLDER else {},
        }
    }
else:
    EMAIL_BACKEND, EMAIL_FILE_PATH = MAIL_BACKEND, MAIL_FOLDER

# The folder again, if a page of the shop may show everybody's mails to everybody.
SHOP_OUTBOX = MAIL_FOLDER if DEBUG else ""

# --- The rest

LANGUAGE_CODE = "en"
USE_TZ = True
TIME_ZONE = "UTC"
