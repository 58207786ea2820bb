"""Everything the demo plays on: a database, a payment server, a gateway and the shop."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import httpx
import psycopg

from tests.support.servers import postgresql
from tests.support.servers.processes import Children, listen, url_of

from .faults import SLOW_SECONDS
from .places import Account, Customer, Stage

__all__ = ["API_KEY", "WEBHOOK_SECRET", "Account", "Customer", "Stage", "set_up"]

API_KEY = "sk_test_demo"
WEBHOOK_SECRET = "whsec_demo"  # noqa: S105 - the demo's own, for its own payment server

_PROTECTED = "example_project.urls"
_UNPROTECTED = "example_project.theatre.demo.unprotected"

# The shop can serve 64 copies at once, and the gateway every charge they cause, while
# a payment takes its time: short, but longer than a second click needs to come.
WORKERS, THREADS = 2, 40
PAYMENT_SECONDS = 0.3
MAX_CONNECTIONS = 4 * WORKERS * THREADS
# Where the provider is slow, each request has a process of its own: one that is killed
# takes no other with it.
SLOW_WORKERS = 20


@contextlib.contextmanager
def set_up(
    *, unprotected: bool, progress: Callable[[str], None], with_lab: bool = False
) -> Iterator[Stage]:
    """Start it all, and end it all on every way out.

    Raises:
        ServerFailed: a server does not start; the message ends with its log.
    """
    with contextlib.ExitStack() as stack:
        yield _start(stack, unprotected, progress, with_lab)


def _start(
    stack: contextlib.ExitStack,
    unprotected: bool,
    progress: Callable[[str], None],
    with_lab: bool,
) -> Stage:
    logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="demo-")))
    progress("Starting PostgreSQL")
    settings = {"max_connections": str(MAX_CONNECTIONS)}
    database = stack.enter_context(postgresql.temporary(settings))
    listeners = [stack.enter_context(contextlib.closing(listen())) for _ in range(6)]
    shop, slow_shop, gateway, slow_gateway, payments, lab = listeners
    mails = logs / "mails"
    mails.mkdir()
    children = stack.enter_context(Children(logs))
    lab_url = url_of(lab) if with_lab else None
    gateway_environment = _environment() | {
        "DJANGO_SETTINGS_MODULE": "example_project.theatre.gateway.settings",
        "GATEWAY_BACKEND_URL": url_of(payments),
        "GATEWAY_DATABASE_URL": _create_database(database.url, "gateway"),
        "GATEWAY_LATENCY_SECONDS": str(PAYMENT_SECONDS),
    }
    shop_environment = _environment() | {
        "DATABASE_URL": database.url,
        "DEMO_URLCONF": _UNPROTECTED if unprotected else _PROTECTED,
        "DJANGO_SETTINGS_MODULE": "example_project.theatre.demo.settings",
        "MAIL_FOLDER": str(mails),
        "LAB_URL": f"{lab_url}/lab/" if lab_url else "",
        "STRIPE_API_BASE": url_of(gateway),
        "STRIPE_API_KEY": API_KEY,
        "STRIPE_WEBHOOK_SECRETS": WEBHOOK_SECRET,
        "GOCARDLESS_WEBHOOK_SECRETS": WEBHOOK_SECRET,
    }

    # First, because it takes as long to start as the tables to be made.
    fake_stripe = [*_python("example_project.theatre.gateway.fake_stripe"), "--fd"]
    fake_stripe.append(str(payments.fileno()))
    children.start("payment server", fake_stripe, _environment(), payments)

    progress("Creating tables, customers and carts")
    prepare = _python("example_project.theatre.demo.prepare")
    migrate = [*_python("django"), "migrate", "--verbosity=0"]
    children.start("prepare", prepare, shop_environment)
    children.start("migrate", migrate, gateway_environment)
    people = json.loads(children.result("prepare"))
    customers = [Customer(**each) for each in people["customers"]]
    children.result("migrate")

    progress("Starting the shop and its payment gateway")
    command = _gunicorn("example_project.theatre.gateway.wsgi", gateway)
    children.start("gateway", command, gateway_environment, gateway)
    command = _gunicorn("example_project.theatre.gateway.wsgi", slow_gateway, workers=1)
    slow = {"GATEWAY_LATENCY_SECONDS": str(SLOW_SECONDS)}
    children.start("slow gateway", command, gateway_environment | slow, slow_gateway)
    command = _gunicorn("example_project.theatre.demo.wsgi", shop)
    children.start("shop", command, shop_environment, shop)
    command = _gunicorn(
        "example_project.theatre.demo.wsgi", slow_shop, workers=SLOW_WORKERS, threads=1
    )
    slow = {"STRIPE_API_BASE": url_of(slow_gateway)}
    children.start("slow shop", command, shop_environment | slow, slow_shop)
    worker = [*_python("django"), "process_events", "--poll-seconds=0.2"]
    children.start("bookkeeper", worker, shop_environment)
    children.ready("payment server", url_of(payments) + "/v1/charges")
    children.ready("gateway", url_of(gateway) + "/v1/refunds")
    children.ready("shop", url_of(shop) + "/accounts/login/")
    children.ready("slow gateway", url_of(slow_gateway) + "/v1/refunds")
    children.ready("slow shop", url_of(slow_shop) + "/accounts/login/")
    _subscribe(url_of(payments), url_of(shop) + "/webhooks/bookkeeping/")
    stage = Stage(
        shop_url=url_of(shop),
        slow_shop_url=url_of(slow_shop),
        lab_url=lab_url,
        gateway_url=url_of(gateway),
        slow_gateway_url=url_of(slow_gateway),
        payment_server_url=url_of(payments),
        database_url=database.url,
        customers=customers[:2],
        others=customers[2:],
        owner=Account(**people["owner"]),
        mails=mails,
        logs=logs,
        unprotected=unprotected,
        manage=partial(_manage, children, shop_environment),
    )
    if with_lab:
        progress("Opening the lab")
        _open_lab(children, lab, shop_environment, stage)
    for listener in listeners:
        # Each server has its own by now. One that dies shall leave none, so that who
        # asks it is told at once.
        listener.close()
    return stage


def _open_lab(
    children: Children,
    listener: socket.socket,
    shop_environment: Mapping[str, str],
    stage: Stage,
) -> None:
    environment = {
        **shop_environment,
        "DJANGO_SETTINGS_MODULE": "example_project.theatre.lab.settings",
        "LAB_STAGE": stage.as_json(),
    }
    # One process, since what is played is in its memory; each page that watches holds
    # one of its threads.
    command = _gunicorn("example_project.theatre.demo.wsgi", listener, workers=1)
    children.start("lab", command, environment, listener)
    children.ready("lab", url_of(listener) + "/lab/")


def _manage(
    children: Children,
    environment: Mapping[str, str],
    commands: Sequence[Sequence[str]],
) -> None:
    names = [f"{command[0]} {uuid.uuid4()}" for command in commands]
    for name, command in zip(names, commands, strict=True):
        children.start(name, [*_python("django"), *command], environment)
    for name in names:
        children.result(name)


def _subscribe(payment_server_url: str, webhook_url: str) -> None:
    """Let the payment server report each payment there, once, a second later."""
    answer = httpx.post(
        f"{payment_server_url}/_config/webhooks/bookkeeping",
        json={
            "url": webhook_url,
            "secret": WEBHOOK_SECRET,
            "events": ["payment_intent.succeeded"],
        },
        trust_env=False,
        timeout=30,
    )
    answer.raise_for_status()


def _create_database(url: str, name: str) -> str:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{url.rpartition('/')[0]}/{name}"


def _python(module: str) -> list[str]:
    return [sys.executable, "-m", module]


def _gunicorn(
    module: str,
    listener: socket.socket,
    *,
    workers: int = WORKERS,
    threads: int = THREADS,
) -> list[str]:
    return [
        *_python("gunicorn"),
        f"{module}:application",
        f"--bind=fd://{listener.fileno()}",
        f"--workers={workers}",
        f"--threads={threads}",
        "--keep-alive=30",
        "--preload",
        "--no-control-socket",
    ]


def _environment() -> dict[str, str]:
    """Ours, without what would point the servers elsewhere."""
    ours = ("DATABASE_URL", "DEBUG", "HTTPS", "ALLOWED_HOSTS", "GUNICORN_CMD_ARGS")
    environment = {k: v for k, v in os.environ.items() if k not in ours}
    # Everything is on this machine, also where the outside world is behind a proxy.
    return environment | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
