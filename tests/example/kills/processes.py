"""The shop, its gateway and the payment server as processes, and what they have done."""

import email
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
from django.db import connection

from example_project.theatre.demo.stage import API_KEY
from tests.example.kills.serve import FOLDER_VARIABLE
from tests.support.client import Answer
from tests.support.deliveries import SECRET
from tests.support.programs import environment
from tests.support.servers.processes import Children, listen, url_of
from tests.support.threads import TIMEOUT

_CSRF = "t" * 32
_GATEWAY_DATABASE = "kills_gateway"


@dataclass(frozen=True, slots=True)
class Town:
    """Where the shop is, and where to see what it did to others."""

    shop_url: str
    gateway_url: str
    payment_server_url: str
    mails: Path

    def send(
        self,
        path: str,
        fields: dict[str, Any] | None = None,
        *,
        key: str = "",
        session: str = "",
        doom: int | str | None = None,
    ) -> Answer | None:
        """Post to the shop; its process is killed at the point `doom`.

        ``None``: it has died before it answered.
        """
        headers = {
            "Cookie": f"sessionid={session}; csrftoken={_CSRF}",
            "X-CSRFToken": _CSRF,
        }
        if key:
            headers["Idempotency-Key"] = key
        if doom is not None:
            headers["Doom-At"] = str(doom)
        url = f"{self.shop_url}/{path}"
        with httpx.Client(trust_env=False, timeout=TIMEOUT, verify=False) as client:  # noqa: S501
            try:
                got = client.post(url, data=fields, headers=headers)
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                return None
        # As the shop wrote them: names in a dictionary are compared as they are.
        names = [(k.decode(), v.decode()) for k, v in got.headers.raw]
        return Answer(status=got.status_code, headers=dict(names), body=got.content)

    def listed(self, kind: str) -> Counter[int]:
        """How many of each amount succeeded, by the payment server's own list."""
        found: Counter[int] = Counter()
        parameters: dict[str, Any] = {"limit": 100}
        while True:
            page = httpx.get(
                f"{self.payment_server_url}/v1/{kind}",
                params=parameters,
                headers={"Authorization": f"Bearer {API_KEY}"},
                trust_env=False,
                timeout=TIMEOUT,
            )
            rows = page.raise_for_status().json()["data"]
            found.update(row["amount"] for row in rows if row["status"] == "succeeded")
            if not page.json()["has_more"]:
                return found
            parameters["starting_after"] = rows[-1]["id"]

    def mailed(self) -> dict[str, list[str]]:
        """The Message-ID of each mail that was sent, by its recipient."""
        found = defaultdict(list)
        for file in self.mails.iterdir():
            for text in file.read_text().split("-" * 79 + "\n"):
                if text.strip():
                    mail = email.message_from_string(text)
                    found[mail["To"]].append(mail["Message-ID"])
        return found


@contextmanager
def set_up(
    *urlconf: str, reports_to: Mapping[str, str] | None = None
) -> Iterator[Town]:
    """Start it all, and end it all; the gateway reports to these paths of the shop."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        mails = folder / "mails"
        mails.mkdir()
        shop, gateway, payments = (
            stack.enter_context(closing(listen())) for _ in range(3)
        )
        children = stack.enter_context(Children(folder))

        fake_stripe = _python("example_project.theatre.gateway.fake_stripe", "--fd")
        fake_stripe.append(str(payments.fileno()))
        children.start("payment server", fake_stripe, environment(), payments)

        database = stack.enter_context(_gateway_database())
        of_gateway = environment(
            DJANGO_SETTINGS_MODULE="example_project.theatre.gateway.settings",
            GATEWAY_BACKEND_URL=url_of(payments),
            GATEWAY_DATABASE_URL=database,
            GATEWAY_WEBHOOK_ENDPOINTS=",".join(
                f"{name}={url_of(shop)}{path}"
                for name, path in (reports_to or {}).items()
            ),
            GATEWAY_WEBHOOK_SECRET=SECRET,
        )
        migrate = _python("django", "migrate", "--verbosity=0")
        children.start("migrate", migrate, of_gateway)
        of_shop = environment(
            STRIPE_API_BASE=url_of(gateway),
            STRIPE_API_KEY=API_KEY,
            NO_PROXY="127.0.0.1",
            **{FOLDER_VARIABLE: str(mails)},
        )
        serve = _python("tests.example.kills.serve", str(shop.fileno()), *urlconf)
        children.start("shop", serve, of_shop, shop)
        children.result("migrate")
        serve = _python(
            "gunicorn",
            "example_project.theatre.gateway.wsgi:application",
            f"--bind=fd://{gateway.fileno()}",
            "--threads=8",
            "--preload",
            "--no-control-socket",
        )
        children.start("gateway", serve, of_gateway, gateway)
        children.ready("payment server", url_of(payments) + "/v1/charges")
        children.ready("gateway", url_of(gateway) + "/v1/refunds")
        children.ready("shop", url_of(shop) + "/carts/")
        yield Town(url_of(shop), url_of(gateway), url_of(payments), mails)


@contextmanager
def _gateway_database() -> Iterator[str]:
    """One of its own on the tests' server, since it shares nothing with the shop."""
    url = environment()["DATABASE_URL"]
    name = f"{_GATEWAY_DATABASE}_{connection.settings_dict['NAME']}"
    server = f"{url.rpartition('/')[0]}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as session:
        drop = psycopg.sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        create = psycopg.sql.SQL("CREATE DATABASE {}")
        session.execute(drop.format(psycopg.sql.Identifier(name)))
        session.execute(create.format(psycopg.sql.Identifier(name)))
        try:
            yield f"{server}/{name}"
        finally:
            session.execute(drop.format(psycopg.sql.Identifier(name)))


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]
