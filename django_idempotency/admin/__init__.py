"""Importing this package registers the admins."""

from __future__ import annotations

from .events import ProcessedEventAdmin
from .records import IdempotencyRecordAdmin

__all__ = ["IdempotencyRecordAdmin", "ProcessedEventAdmin"]
