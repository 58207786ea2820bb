"""A server in which each request has a process of its own.

So it can be killed or stopped without the others.
"""

import socket
import socketserver

from django.core.servers.basehttp import WSGIRequestHandler, WSGIServer


class ForkingServer(socketserver.ForkingMixIn, WSGIServer):
    """Serves a socket that somebody else has opened."""

    request_queue_size = 128
    max_children = 200

    def __init__(self, listener: socket.socket) -> None:
        address = listener.getsockname()
        super().__init__(address, WSGIRequestHandler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = address
        self.setup_environ()
