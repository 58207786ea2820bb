"""Make any sensitive Django action safe to repeat."""

__version__ = "0.1.0"
