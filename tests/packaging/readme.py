"""The README, as the things that its tests and continuous integration look up in it."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(marker: str) -> str:
    """Return the fenced block right under ``<!-- marker -->``, without its fences."""
    pattern = rf"^<!-- {re.escape(marker)} -->\n```[a-z]*\n(.*?)^```$"
    found = re.findall(pattern, README, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"README.md has {len(found)} blocks under {marker!r}"
    return str(found[0])
