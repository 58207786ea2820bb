"""Start localstripe, the test server behind the gateway.

    python -m example_project.theatre.gateway.fake_stripe --fd 3

Its own command listens on every network interface and writes its store to one fixed
file in the folder for temporary files, for all users and all servers. Here it serves a
socket that the caller has opened, on the loopback interface, and remembers nothing
after its end.
"""

from __future__ import annotations

import argparse
import socket

from aiohttp import web
from localstripe import resources, server  # type: ignore[import-untyped]


def main() -> None:
    parser = argparse.ArgumentParser(description="The test server localstripe.")
    parser.add_argument("--fd", type=int, required=True, help="a listening socket")
    listener = socket.socket(fileno=parser.parse_args().fd)
    resources.store.dump_to_disk = lambda: None
    web.run_app(server.app, sock=listener, access_log=None, print=None)


if __name__ == "__main__":
    main()
