"""What the benchmarks have in common: the command line, whole requests and the clock."""

import argparse
import gc
import io
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache
from typing import Any

from django.core.wsgi import get_wsgi_application

from tests.support.standalone import DURABLE, set_up, write


def run(
    description: str | None,
    numbers: Mapping[str, int],
    measured: Callable[..., dict[str, Any]],
    *,
    server_settings: Mapping[str, str] = DURABLE,
) -> int:
    """Parse the command line, measure, and print what `measured` returns.

    Each of the `numbers` is an option with that default and an argument of `measured`.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    for name, default in numbers.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=default, metavar="N")
    parser.add_argument("--json", action="store_true")
    options = vars(parser.parse_args())
    as_json = options.pop("json")
    with ExitStack() as stack:
        set_up(stack, "tests.benchmarks.settings", server_settings=server_settings)
        result = measured(**options)
    write(result, as_json=as_json)
    return 0


def _nothing() -> None: ...


def microseconds_each(
    ways: dict[str, Callable[[], None]],
    *,
    count: int,
    rounds: int,
    before: Callable[[], None] = _nothing,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return the median time per operation of each way.

    They are timed turn by turn, so that all meet the same weather. A round does the thing `count` times in each way; `before` each, untimed, comes the
    preparation. The first round isn't counted.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds + 1):
        for name in names if number % 2 else reversed(names):
            before()
            gc.collect()
            started = clock()
            for _ in range(count):
                ways[name]()
            elapsed = clock() - started
            if number:
                times[name].append(elapsed / count * 1e6)
    return {name: round(statistics.median(each), 1) for name, each in times.items()}


@cache
def _application() -> Callable[..., Any]:
    return get_wsgi_application()


def post(path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Send a whole request in this process; return the status and the body."""
    statuses: list[str] = []

    def start_response(status: str, *more: Any) -> None:
        statuses.append(status)

    response = _application()(_environment(path, body, headers), start_response)
    try:
        content = b"".join(response)
    finally:
        response.close()
    return int(statuses.pop().split()[0]), content


def _environment(path: str, body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        **{
            f"HTTP_{name.upper().replace('-', '_')}": value
            for name, value in headers.items()
        },
    }
