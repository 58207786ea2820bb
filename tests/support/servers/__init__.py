"""Servers that the tests and the demo start on this machine, and end.

They know neither of the two, so that the tests of the package don't need the example.
"""

import socket
from pathlib import Path


class ServerFailed(Exception):
    """A server can't be installed, does not start or stop, or is gone."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tail(log: Path, lines: int = 20) -> str:
    """The end of a log, for whoever reads why its server failed."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
