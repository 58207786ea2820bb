"""Settings of a project without time zones, whose clocks show tomorrow."""

from tests.settings import *  # noqa: F403

USE_TZ = False
TIME_ZONE = "Pacific/Kiritimati"
