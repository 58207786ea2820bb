"""The fixture for tests that commit, quicker than a flush of the database."""

from collections.abc import Iterator

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db.models import Model
from pytest_django import DjangoDbBlocker

from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from tests.testapp.models import Order

# What refers to others comes first: a row that can't be deleted would stay for all tests
# that follow, and so would everything behind it.
WRITTEN: list[type[Model]] = [
    IdempotencyRecord,
    ProcessedEvent,
    Order,
    Session,
    LogEntry,
    User.user_permissions.through,
    User,
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
