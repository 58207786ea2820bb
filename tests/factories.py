"""What tests are about: users, records and events."""

from django.contrib.auth.models import User
from factory.declarations import LazyAttribute, Sequence
from factory.django import DjangoModelFactory

from django_idempotency.testing.factories import (
    IdempotencyRecordFactory,
    ProcessedEventFactory,
)

__all__ = ["IdempotencyRecordFactory", "ProcessedEventFactory", "UserFactory"]


class UserFactory(DjangoModelFactory[User]):
    """Makes a user, or returns the one of that name."""

    class Meta:
        model = User
        django_get_or_create = ("username",)

    username = Sequence(lambda number: f"user-{number}")
    email = LazyAttribute(lambda made: f"{made.username}@example.com")
