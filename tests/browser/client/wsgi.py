"""The site, whose answers can get lost after they were made."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application

from .scene import Scene

HALF_AN_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"

django = get_wsgi_application()
scene = Scene.of_this_process()


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    answer: Iterable[bytes] = django(environ, start_response)
    if environ["REQUEST_METHOD"] == "POST":
        if scene.happens("drop"):
            environ["gunicorn.socket"].shutdown(socket.SHUT_RDWR)
        elif scene.happens("lose"):
            environ["gunicorn.socket"].sendall(HALF_AN_ANSWER)
            environ["gunicorn.socket"].shutdown(socket.SHUT_RDWR)
    return answer
