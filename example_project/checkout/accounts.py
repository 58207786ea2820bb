"""What a customer changes about the account."""

from __future__ import annotations

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

from .models import EmailChange
from .receipts import confirm_email_change, send_after_commit

__all__ = ["give_new_email"]


def give_new_email(user: AbstractBaseUser | AnonymousUser, email: str) -> EmailChange:
    """Give the account another e-mail address, and confirm it there after the commit.

    Runs in the transaction of its caller.
    """
    account = (
        get_user_model().objects.select_for_update().get(username=user.get_username())
    )
    change = EmailChange.objects.create(user=account, old=account.email, new=email)
    account.email = change.new
    account.save(update_fields=["email"])
    send_after_commit(confirm_email_change, change.pk)
    return change
