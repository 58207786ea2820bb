"""For your own test suite. The factories in `testing.factories` need factory-boy."""

from __future__ import annotations

from .assertions import Call, assert_idempotent

__all__ = ["Call", "assert_idempotent"]
