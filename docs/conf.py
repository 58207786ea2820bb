"""Configuration of Sphinx."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

# It imports nothing, so neither Django nor an installation is needed here.
from django_idempotency import __version__

project = "django_idempotency"
author = "The django_idempotency contributors"
copyright = f"2026, {author}"
release = __version__

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
nitpicky = True

# Headings can be linked to as page.md#heading. The anchors of reference/problems.md
# are also the targets of the links in problem documents.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

html_theme = "furo"
html_title = f"{project} {release}"
