"""The tests of the admin once more, in a project with django-unfold."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("unfold")

HERE = Path(__file__).parent


@pytest.mark.timeout(400)
def test_admin_is_as_good_under_unfold() -> None:
    """In a process of its own: an admin is registered once and for all at start-up."""
    done = subprocess.run(  # noqa: S603 - our own arguments
        [
            *(sys.executable, "-m", "pytest"),
            *(
                str(HERE / f"test_{name}.py")
                for name in ("deciding", "front", "records", "saving")
            ),
            *("--ds", "tests.settings_unfold", "-p", "no:cacheprovider", "-q"),
            # Its own, not ours: it lags behind Django's deprecations.
            *("-W", "ignore:Overriding get_action_choices"),
        ],
        capture_output=True,
        check=False,
        cwd=HERE.parents[2],
        text=True,
        timeout=380,
    )

    assert done.returncode == 0, done.stdout
