"""What a campaign's processes are told: where things are, and how long they may take.

In a campaign as short as it wants them: what counts is that each of the time-outs is set,
as the documentation asks a project to do. Where nothing is left to chance they are
patient, so that a machine that stalls changes nothing.
"""

import os
from datetime import timedelta

# Names of environment variables.
LOG = "FAULTS_LOG"
"""The file in which what has struck is written."""

FOLDER = "FAULTS_FOLDER"
"""Where faults for workers are put."""

NODES = "FAULTS_NODES"
"""The ports of nodes that all take writes, if there are several."""

PATIENT = "FAULTS_PATIENT"
"""Whether nothing in the shop is to end because it takes long."""

PROVIDER_URL = "FAULTS_PROVIDER_URL"

SABOTAGE = "FAULTS_SABOTAGE"
"""The guard that the server processes go without."""

SABOTAGES = (
    "unique",
    "savepoint",
    "token",
    "signature",
    "scope",
    "kept",
    "held",
    "expiry",
    "renewal",
    "shield",
    "seen",
    "names",
    "mark",
    "beside",
    "stream",
    "look-again",
)

TENANTS = 2
"""Each with a receiver of its own, all of them made by one function."""

_is_patient = bool(os.environ.get(PATIENT))

LEASE = timedelta(seconds=1)
WAIT = timedelta(seconds=30 if _is_patient else 1)
"""For how long a copy waits for the one that runs."""
IDLE_SECONDS = 60 if _is_patient else 1
"""After which the database ends a session that does nothing in its transaction."""
PROVIDER_SECONDS = 60 if _is_patient else 0.7
"""How long the shop waits for the provider."""

LONG_VIEW_LEASE = timedelta(seconds=2)
BEFORE_THE_CALL_SECONDS, CALL_SECONDS = 1.5, 1.0
"""A view that is longer than its lease, and of which no step is."""
LONG_VIEW_SECONDS = BEFORE_THE_CALL_SECONDS + CALL_SECONDS
LONG_VIEW_PROVIDER_SECONDS = 60 if _is_patient else 5.0
LONGEST_LEASE = max(LEASE, LONG_VIEW_LEASE)

PATIENCE_SECONDS = (0.5, 1.5, 1.5, 3.0)
"""How long a client waits for one answer."""
LONGEST_PAUSE_SECONDS = 2.0
"""Between two of its tries."""

FAULTS_IN_A_ROW = 6
"""How many may hit one client: its own two, and those of runs beside it by chance."""


def deadline_seconds(patience: float, *, is_long: bool) -> float:
    """How long a client may have to try that waits so long for each answer.

    Not counted is what no promise is about: a database that is down, and a machine that
    stands still.
    """
    lease = LONG_VIEW_LEASE if is_long else LEASE
    return FAULTS_IN_A_ROW * (
        max(lease.total_seconds(), IDLE_SECONDS)  # a fault keeps the key no longer
        # For a try that is slow as well.
        + (LONG_VIEW_SECONDS if is_long else PROVIDER_SECONDS)
        + patience  # a try that was too early, or that a stopped process has taken
        + LONGEST_PAUSE_SECONDS
    )
