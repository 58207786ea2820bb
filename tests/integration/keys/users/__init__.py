"""An app with the user models that projects have; see `tests/settings_users.py`."""
