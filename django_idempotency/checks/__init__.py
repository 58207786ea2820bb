"""System checks: every message has a stable id and shows the line to paste.

Importing this package registers them. What needs a connection carries Django's database
tag and says nothing unless a database is named (``check --database default``; migrate
does it by itself).
"""

from __future__ import annotations

from django.core.checks import Tags, register

from .databases import check_databases, check_live_databases
from .middleware import check_middleware
from .settings import check_settings
from .urls import check_placements

TAG = "idempotency"

register(check_settings, TAG)
register(check_middleware, TAG)
register(check_databases, TAG)
register(check_live_databases, Tags.database)
register(check_placements, Tags.urls)
