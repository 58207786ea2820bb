"""Whoever looks at the admin."""

from django.contrib.auth.models import Permission, User
from django.test import Client


def colleague(*permissions: str, of: str = "idempotencyrecord") -> Client:
    """Somebody of the staff, named "colleague", who may do only this with one model."""
    user = User.objects.create_user("colleague", is_staff=True)
    codenames = [f"{each}_{of}" for each in permissions]
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client
