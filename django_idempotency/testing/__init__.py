"""For your own test suite. The factories in `testing.factories` need factory-boy.

Nothing is imported before it is used: pytest loads the plugin in this package before
there are settings, and in projects that have no Django.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .assertions import assert_idempotent
    from .calls import Call
    from .cases import IdempotencyTestMixin
    from .clients import AsyncIdempotentClient, IdempotentClient, sending_keys
    from .crashing import crash_everywhere
    from .deliveries import deliver
    from .hammering import hammer
    from .handlers import assert_handler_safe

__all__ = [
    "AsyncIdempotentClient",
    "Call",
    "IdempotencyTestMixin",
    "IdempotentClient",
    "assert_handler_safe",
    "assert_idempotent",
    "crash_everywhere",
    "deliver",
    "hammer",
    "sending_keys",
]

_MODULES = {
    "AsyncIdempotentClient": "clients",
    "Call": "calls",
    "IdempotencyTestMixin": "cases",
    "IdempotentClient": "clients",
    "assert_handler_safe": "handlers",
    "assert_idempotent": "assertions",
    "crash_everywhere": "crashing",
    "deliver": "deliveries",
    "hammer": "hammering",
    "sending_keys": "clients",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
