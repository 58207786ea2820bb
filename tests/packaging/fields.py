"""A primary key that a project may have chosen for all its models."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.db import models

if TYPE_CHECKING:
    AutoField = models.AutoField[uuid.UUID, uuid.UUID]
else:
    AutoField = models.AutoField


class UuidAutoField(AutoField):
    """A UUID where Django accepts only automatic fields."""

    def get_internal_type(self) -> str:
        return "UUIDField"
