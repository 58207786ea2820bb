"""Program: serve the shop on an inherited socket, each request in a process of its own.

    python -m tests.faults.serve FD

A fault for one request hits nobody else.
"""

from __future__ import annotations

import socket
import sys

from tests.concurrency.leased.serve import InheritingServer
from tests.faults.wsgi import application


def main() -> None:
    server = InheritingServer(socket.socket(fileno=int(sys.argv[1])))
    server.set_app(application)
    server.serve_forever()


if __name__ == "__main__":
    main()
