"""Whole requests: from the WSGI environment to the answer, with the event stored."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from typing import Any

from django.core.wsgi import get_wsgi_application

from tests.benchmarks.webhooks.timing import microseconds_each
from tests.deliveries import Sent, stripe

__all__ = ["ingestion"]


def ingestion(*, count: int, rounds: int) -> dict[str, float]:
    application: Any = get_wsgi_application()
    numbers = itertools.count()

    def delivering_to(path: str) -> Callable[[], None]:
        statuses: list[str] = []

        def start_response(status: str, *more: Any) -> None:
            statuses.append(status)

        def deliver() -> None:
            sent = stripe(f"evt_{next(numbers)}", padding="x" * 1500)
            application(_environment(path, sent), start_response).close()
            if statuses.pop() != "200 OK":
                raise RuntimeError(f"{path} has not stored the event")

        return deliver

    times = microseconds_each(
        {
            "ours": delivering_to("/ours/"),
            "by_hand": delivering_to("/by-hand/"),
            "by_hand_in_a_transaction": delivering_to("/by-hand-in-a-transaction/"),
        },
        count=count,
        rounds=rounds,
    )
    return {f"{name}_us": each for name, each in times.items()} | {
        "ratio": round(times["by_hand"] / times["ours"], 2),
        "ratio_to_a_transaction": round(
            times["by_hand_in_a_transaction"] / times["ours"], 2
        ),
    }


def _environment(path: str, sent: Sent) -> dict[str, Any]:
    headers = {
        f"HTTP_{name.upper().replace('-', '_')}": value
        for name, value in sent.headers.items()
    }
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(sent.body)),
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(sent.body),
        "wsgi.errors": io.StringIO(),
        **headers,
    }
