import uuid

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models


class UuidUser(AbstractBaseUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=100, unique=True)

    objects = BaseUserManager["UuidUser"]()

    USERNAME_FIELD = "name"


class EmailUser(AbstractBaseUser):
    name = models.EmailField(primary_key=True)

    objects = BaseUserManager["EmailUser"]()

    USERNAME_FIELD = "name"


class NumberedUser(AbstractBaseUser):
    name = models.CharField(max_length=100, unique=True)

    objects = BaseUserManager["NumberedUser"]()

    USERNAME_FIELD = "name"


class ProxyUser(NumberedUser):
    class Meta:
        proxy = True
