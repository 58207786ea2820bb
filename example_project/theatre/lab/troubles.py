"""What is wrong with the stage itself, in words."""

from __future__ import annotations

from contextlib import suppress

import httpx
import psycopg

from example_project.theatre.demo.places import Stage

from .runs import Event, error

__all__ = ["find_trouble"]

_RESTART = (
    "Press Ctrl-C where the demo runs, and start it again with "
    "“python manage.py demo --serve”."
)


def find_trouble(stage: Stage) -> Event | None:
    """The first server that doesn't answer, and what follows from that."""
    servers = {
        "payment server": (stage.payment_server_url, "no card can be charged"),
        "payment gateway": (stage.gateway_url, "no card can be charged"),
        "slow payment gateway": (
            stage.slow_gateway_url,
            "no card can be charged where a payment takes seconds",
        ),
        "shop": (stage.shop_url, "nobody can buy anything"),
        "shop with the slow provider": (stage.slow_shop_url, "nobody can buy there"),
    }
    if not _is_database_there(stage):
        return _no_answer("database", "nothing can be written down")
    for name, (url, consequence) in servers.items():
        if not _answers(url):
            return _no_answer(name, consequence)
    return None


def _no_answer(name: str, consequence: str) -> Event:
    return error(f"The {name} does not answer, so {consequence}.", _RESTART)


def _is_database_there(stage: Stage) -> bool:
    with (
        suppress(psycopg.OperationalError),
        psycopg.connect(stage.database_url, connect_timeout=10),
    ):
        return True
    return False


def _answers(url: str) -> bool:
    """Whatever it answers: that somebody is there is the question."""
    with suppress(httpx.TransportError):
        httpx.get(url, timeout=10, trust_env=False)
        return True
    return False
