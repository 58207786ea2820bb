"""Everything that a campaign runs on: a database, a provider, a shop and its workers."""

import contextlib
import json
import math
import os
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any

from tests.faults.conditions import (
    FOLDER,
    LOG,
    NODES,
    PATIENT,
    PROVIDER_URL,
    SABOTAGE,
)
from tests.faults.databases import POSTGRESQL, Database
from tests.faults.databases import started as database_started
from tests.faults.plans import ASGI, CALM
from tests.faults.provider import Charge, Listing
from tests.support.servers.processes import Children, listen, url_of

WORKERS, THREADS, ASGI_WORKERS, CALM_WORKERS = 3, 12, 2, 1

ACTS = (
    *("kill", "stop", "drop", "cancel", "restart", "crash", "provider", "leave"),
    *("alter", "time-out", "outrun", "cut"),
)
"""Those of faults."""

STILL_SECONDS = 0.5
"""A loop that takes longer was held up by a machine that has other things to do."""


class Watcher(threading.Thread):
    """Reads the log of what has struck, and does what only somebody outside can do."""

    def __init__(self, log: Path, database: Database) -> None:
        super().__init__(daemon=True)
        self.log = log
        self.database = database
        self.lines: list[dict[str, Any]] = []
        self.struck: set[tuple[int, int]] = set()
        """Runs, and which of their faults."""
        self.awake_seconds = 0.0
        """How long the database was up, and this machine did not stand still."""
        self._continue_at: list[tuple[float, int]] = []
        self._over = threading.Event()
        self._is_up = threading.Event()
        self._is_up.set()
        self._restarts = ThreadPoolExecutor(1)

    def run(self) -> None:
        with self.log.open() as lines:
            rest = ""
            last = time.monotonic()
            while not self._over.is_set():
                now = time.monotonic()
                if self._is_up.is_set() and now - last < STILL_SECONDS:
                    self.awake_seconds += now - last
                last = now
                rest += lines.readline()
                if rest.endswith("\n"):
                    self._see(json.loads(rest))
                    rest = ""
                else:
                    self._over.wait(0.005)
                self._continue()

    def stop(self) -> None:
        self._over.set()
        self.join()
        # A cluster takes seconds for each, and nobody waits for the rest.
        self._restarts.shutdown(cancel_futures=True)

    @property
    def is_quiet(self) -> bool:
        """Whether no process is stopped, and the database is up."""
        return not self._continue_at and self._is_up.is_set()

    def faults(self) -> dict[str, int]:
        kinds = (line["kind"] for line in list(self.lines) if line.get("act") in ACTS)
        return dict(sorted(Counter(kinds).items()))

    def executions(self) -> dict[int, list[tuple[float, float]]]:
        """By operation, when its work has begun, and when it was over."""
        found: dict[int, dict[str, tuple[float, float]]] = defaultdict(dict)
        for line in list(self.lines):
            if "begun" in line:
                found[line["begun"]][line["by"]] = (line["time"], math.inf)
            elif "left" in line:
                began, _ = found[line["left"]][line["by"]]
                found[line["left"]][line["by"]] = (began, line["time"])
        return {operation: sorted(each.values()) for operation, each in found.items()}

    def told(self, what: str) -> list[Any]:
        """What background processes have told under this name."""
        return [line[what] for line in list(self.lines) if what in line]

    def recorded(self) -> dict[str, list[tuple[str, str]]]:
        """The points that were passed in peace, by the kind of what was recorded."""
        return {
            line["kind"]: [(where, what) for where, what in json.loads(line["detail"])]
            for line in list(self.lines)
            if line.get("act") == "record"
        }

    def struck_between(self, start: float, end: float) -> list[dict[str, Any]]:
        return [line for line in list(self.lines) if start <= line["time"] <= end]

    def _see(self, line: dict[str, Any]) -> None:
        act = line.get("act")
        if act == "stop":
            self._continue_at.append((time.time() + line["seconds"], line["pid"]))
        elif act == "restart":
            self._end(self.database.restart)
        elif act == "crash":
            self._end(self.database.kill)
        elif act == "cut":
            self._end(self.database.cut_off)
        self.lines.append(line)
        if act in ACTS:
            self.struck.add((line["run"], line["number"]))

    def _end(self, end: Callable[[], bool]) -> None:
        # Elsewhere, for who is struck meanwhile must be seen at once.
        self._is_up.clear()
        self._restarts.submit(self._end_and_wait, end)

    def _end_and_wait(self, end: Callable[[], bool]) -> None:
        try:
            if not end():
                sys.stderr.write("The database did not come back.\n")
        except Exception as error:
            sys.stderr.write(f"The database could not be ended: {error!r}\n")
        finally:
            self._is_up.set()

    def _continue(self) -> None:
        now = time.time()
        for due in [each for each in self._continue_at if each[0] <= now]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(due[1], signal.SIGCONT)
            self._continue_at.remove(due)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where everything is."""

    shop_url: str
    asgi_url: str
    calm_url: str
    provider_url: str
    database: Database
    folder: Path
    """Where faults for workers are put."""
    watcher: Watcher
    counts: bool
    """Whether counts by the hour are written."""
    has_failed: threading.Event
    """Set to end the clients early, since what they would see is known."""

    def url_of(self, entry: str) -> str:
        if entry in ASGI:
            return self.asgi_url
        return self.calm_url if entry in CALM else self.shop_url

    def query(self, statement: str, *parameters: Any) -> list[Any]:
        return self.database.query(statement, *parameters)

    def provider_listing(self) -> Listing:
        """Return what the provider says that it was asked, and did."""
        with urllib.request.urlopen(self.provider_url) as answer:  # noqa: S310
            content = json.load(answer)
        content["charges"] = [Charge(**each) for each in content["charges"]]
        return Listing(**content)


@contextlib.contextmanager
def set_up(
    sabotage: str = "",
    *,
    database: str = POSTGRESQL,
    one_by_one: bool = False,
    count: bool = False,
) -> Iterator[Stage]:
    """Start it all, and end it all on every way out.

    `one_by_one`: each request is served by a process of its own, which can be killed
    alone, and nothing ends because it takes long. Nobody handles the inbox.
    `count`: the processes write down counts by the hour.

    Raises:
        ServerFailed: a server does not start; the message ends with its log.
    """
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(database_started(database))
        yield _start(stack, running, sabotage, one_by_one=one_by_one, count=count)


def _start(
    stack: contextlib.ExitStack,
    database: Database,
    sabotage: str,
    *,
    one_by_one: bool,
    count: bool,
) -> Stage:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
    shop, asgi, calm, provider = (
        stack.enter_context(contextlib.closing(listen())) for _ in range(4)
    )
    children = stack.enter_context(Children(folder))
    log = folder / "struck"
    log.touch()
    # What is killed leaves no measurement of coverage behind.
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "COVERAGE"))}
    environment = ours | {
        "DATABASE_URL": database.url,
        "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
        LOG: str(log),
        FOLDER: str(folder),
        PROVIDER_URL: url_of(provider),
        PATIENT: "yes" if one_by_one else "",
        SABOTAGE: sabotage,
        NODES: " ".join(map(str, database.ports)),
        "TESTS_COUNT": "yes" if count else "no",
        "no_proxy": "127.0.0.1",
    }
    python = [sys.executable, "-m"]
    children.start(
        "provider",
        [*python, "tests.faults.provider", str(provider.fileno())],
        environment,
        provider,
    )
    migrate = [*python, "django", "migrate", "--run-syncdb", "--verbosity=0"]
    children.start("migrate", migrate, environment)
    children.result("migrate")
    if one_by_one:
        serve = [*python, "tests.faults.serve", str(shop.fileno())]
    else:
        serve = _gunicorn(shop, "wsgi", f"--workers={WORKERS}", f"--threads={THREADS}")
        serve_async = _gunicorn(asgi, "asgi", f"--workers={ASGI_WORKERS}", "-kasgi")
        children.start("ASGI shop", serve_async, environment, asgi)
        serve_calmly = _gunicorn(
            calm, "wsgi", f"--workers={CALM_WORKERS}", f"--threads={THREADS}"
        )
        children.start("calm shop", serve_calmly, environment, calm)
        children.start("workers", [*python, "tests.faults.workers"], environment)
    children.start("shop", serve, environment, shop)
    children.ready("shop", url_of(shop) + "/inbox/")
    if not one_by_one:
        children.ready("ASGI shop", url_of(asgi) + "/inbox/")
        children.ready("calm shop", url_of(calm) + "/inbox/")
    children.ready("provider", url_of(provider))
    watcher = Watcher(log, database)
    watcher.start()
    stack.callback(watcher.stop)
    return Stage(
        shop_url=url_of(shop),
        asgi_url=url_of(asgi),
        calm_url=url_of(calm),
        provider_url=url_of(provider),
        database=database,
        folder=folder,
        watcher=watcher,
        counts=count,
        has_failed=threading.Event(),
    )


def _gunicorn(listener: socket, application: str, *options: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "gunicorn",
        f"tests.faults.serve:{application}()",
        f"--bind=fd://{listener.fileno()}",
        "--preload",
        "--no-control-socket",
        *options,
    ]
