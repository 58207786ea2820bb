"""Django's PostgreSQL backend on the development server, started when first needed.

Starting it in the settings instead would leave a server behind after ``manage.py
help``, a type check, or anything else that only reads the settings.
"""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import base

from example_project.theatre import devdb

__all__ = ["DatabaseWrapper"]


class DatabaseWrapper(base.DatabaseWrapper):
    def get_connection_params(self) -> dict[str, Any]:
        # Asked for every new connection: the server may have moved to another port.
        self.settings_dict |= {"HOST": "127.0.0.1", "PORT": str(devdb.start().port)}
        return super().get_connection_params()
