"""How long things may take in the shop, and what follows for its clients.

In a campaign as short as it wants them: what counts is that each of them is set, as the
documentation asks a project to do. Where nothing is left to chance they are patient, so
that a machine that stalls changes nothing.
"""

from __future__ import annotations

import os
from datetime import timedelta

from tests.faults.names import PATIENT

__all__ = [
    "IDLE_SECONDS",
    "LEASE",
    "LONGEST_PAUSE_SECONDS",
    "PATIENCE_SECONDS",
    "PROVIDER_SECONDS",
    "WAIT",
    "deadline_seconds",
]

_is_patient = bool(os.environ.get(PATIENT))

LEASE = timedelta(seconds=1)
WAIT = timedelta(seconds=30 if _is_patient else 1)
"""For how long a copy waits for the one that runs."""
IDLE_SECONDS = 60 if _is_patient else 1
"""After which PostgreSQL ends a session that does nothing in its transaction."""
PROVIDER_SECONDS = 60 if _is_patient else 0.7
"""How long the shop waits for the provider."""

PATIENCE_SECONDS = (0.5, 1.5, 1.5, 3.0)
"""How long a client waits for one answer."""
LONGEST_PAUSE_SECONDS = 2.0
"""Between two of its tries."""

FAULTS_IN_A_ROW = 6
"""How many may hit one client: its own two, and those of runs beside it by chance."""


def deadline_seconds(patience: float) -> float:
    """How long a client may have to try that waits so long for each answer.

    Not counted is what no promise is about: a database that is down, and a machine that
    stands still.
    """
    return FAULTS_IN_A_ROW * (
        max(LEASE.total_seconds(), IDLE_SECONDS)  # a fault keeps the key no longer
        + PROVIDER_SECONDS  # for a try that is slow as well
        + patience  # a try that was too early, or that a stopped process has taken
        + LONGEST_PAUSE_SECONDS
    )
