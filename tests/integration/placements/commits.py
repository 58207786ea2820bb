"""The fixture for tests that commit, quicker than a flush of the database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db.models import Model
from pytest_django import DjangoDbBlocker

from django_idempotency.models import IdempotencyRecord
from tests.testapp.models import Order

WRITTEN: list[type[Model]] = [
    User.user_permissions.through,
    User,
    Session,
    Order,
    IdempotencyRecord,
]


@pytest.fixture
def db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Real commits, where pytest-django's ``db`` is a transaction.

    ``django_db(transaction=True)`` would flush every table and make all permissions
    anew, which for a matrix of a thousand tests takes minutes.
    """
    with django_db_blocker.unblock():
        yield
        for model in WRITTEN:
            model._base_manager.all()._raw_delete(using="default")
