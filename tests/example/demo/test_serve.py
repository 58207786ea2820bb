"""``manage.py demo --serve``: the shop, the lab and the admin, until Ctrl-C."""

import re
import signal
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from tests.example.demo.commands import (
    pages_of,
    processes_with,
    start,
    temporary_folder,
)

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def served() -> Iterator[dict[str, Any]]:
    with served_until(signal.SIGTERM) as pages:
        yield pages


@contextmanager
def served_until(number: signal.Signals, *arguments: str) -> Iterator[dict[str, Any]]:
    """Serve until the signal, which leaves nothing behind."""
    with (
        temporary_folder() as folder,
        start("--serve", "--format", "json", *arguments, TMPDIR=str(folder)) as demo,
    ):
        try:
            yield pages_of(demo)
        finally:
            demo.send_signal(number)
            demo.communicate(timeout=60)
        assert demo.returncode == 0
        assert processes_with(folder) == []
        assert list(folder.iterdir()) == []


def browser() -> httpx.Client:
    return httpx.Client(timeout=60, trust_env=False)


def sign_in(client: httpx.Client, served: dict[str, Any], name: str) -> httpx.Response:
    login = served["admin"] + "login/"
    client.get(login).raise_for_status()
    token = client.cookies["csrftoken"]
    password = served["accounts"][name]
    fields = {"username": name, "password": password, "csrfmiddlewaretoken": token}
    return client.post(login, data=fields)


def start_run(client: httpx.Client, served: dict[str, Any], story: str) -> str:
    """Returns where its events are."""
    client.get(served["lab"]).raise_for_status()
    answer = client.post(
        served["lab"] + "runs/",
        data={"story": story},
        headers={
            "Idempotency-Key": str(uuid.uuid4()),
            "X-CSRFToken": client.cookies["csrftoken"],
        },
    )
    assert answer.status_code == 201, answer.text
    return str(httpx.URL(served["lab"]).join(answer.json()["events"]))


def test_terminal_gets_the_addresses_and_who_may_sign_in() -> None:
    with start("--serve") as demo:
        assert demo.stdout is not None
        lines = []
        while "Ctrl-C" not in (line := demo.stdout.readline()):
            assert line
            lines.append(line)
        found = dict(re.findall(r"^(lab|shop|admin) +(\S+)", "".join(lines), re.M))
        statuses = {
            name: httpx.get(address, trust_env=False, timeout=60).status_code
            for name, address in found.items()
        }
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=60)

    assert statuses == {"lab": 200, "shop": 200, "admin": 302}
    assert re.search(r"^admin .* as owner / \S+$", "".join(lines), re.M)
    assert re.search(r"^shop .* as ada / \S+ or grace / \S+$", "".join(lines), re.M)
    assert demo.returncode == 0


def test_owner_sees_what_happened_in_the_lab(served: dict[str, Any]) -> None:
    with browser() as client:
        assert sign_in(client, served, "owner").status_code == 302
        with client.stream("GET", start_run(client, served, "double-click")) as events:
            assert "event: over" in events.read().decode()

        records = client.get(served["admin"] + "django_idempotency/idempotencyrecord/")

        assert records.status_code == 200
        assert "/checkout/" in records.text


def test_customer_sees_the_lab_from_the_shop_and_not_the_admin(
    served: dict[str, Any],
) -> None:
    shop = served["checkouts"].partition("/naive")[0]
    with browser() as client:
        assert sign_in(client, served, "ada").status_code == 200  # the form, again
        answer = client.get(f"{shop}/lab/")

    assert (answer.status_code, answer.headers["Location"]) == (302, served["lab"])


def test_signal_in_a_run_leaves_nothing_behind() -> None:
    with (
        browser() as client,
        ExitStack() as stays_open,
        served_until(signal.SIGINT) as pages,
    ):
        stream = client.stream("GET", start_run(client, pages, "held"))
        events = stays_open.enter_context(stream)
        # Commands of the shop are among what runs now.
        next(line for line in events.iter_lines() if '"sent"' in line)


def test_serving_without_protection_does_damage_on_both_sides() -> None:
    with served_until(signal.SIGTERM, "--unprotected") as pages, browser() as client:
        assert "taken off on purpose" in client.get(pages["lab"]).text
        url = start_run(client, pages, "worker-killed")
        with client.stream("GET", url) as events:
            told = events.read().decode()

    assert "The protected one charged your customer twice" in told
