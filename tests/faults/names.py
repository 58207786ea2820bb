"""The environment variables by which a campaign tells its processes where things are."""

from __future__ import annotations

__all__ = ["FOLDER", "LOG", "PATIENT", "PROVIDER_URL", "SABOTAGE", "SABOTAGES"]

LOG = "FAULTS_LOG"
"""The file in which what has struck is written."""

FOLDER = "FAULTS_FOLDER"
"""Where faults for workers are put."""

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
)
