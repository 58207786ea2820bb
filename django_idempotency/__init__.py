"""Make any sensitive Django action safe to repeat."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["idempotent"]

if TYPE_CHECKING:
    from .decorators import idempotent
else:

    def __getattr__(name: str) -> Any:
        """Import the decorator when it is asked for.

        Django imports this module before there are models, which that one needs.
        """
        if name == "idempotent":
            from .decorators import idempotent

            return idempotent
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        """Name the decorator before it is imported, for shells that complete names."""
        return sorted({*globals(), *__all__})
