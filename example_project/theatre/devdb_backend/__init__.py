"""A database backend for ``ENGINE``: Django looks for it in ``base``."""
