"""The shop of the page, in a process that may be killed right after its COMMIT.

`PROGRAM` is one checkout. Its arguments are the part of the page, whether it is killed,
and the folder of Celery's queue.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from celery import Celery
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.management import BaseCommand
from django.db import connection, transaction
from django.http import JsonResponse
from django.test import RequestFactory

KEY = "f81d4fae-7dec-4d0a-a765-00a0c91e6bf6"
PAGE = "howto/after-the-commit"
DATABASE, OUTSIDE = "enqueue(", "delay"
"""What tells the two parts of the page."""

# Imported, and not run as a module: tasks are found by the name of theirs.
PROGRAM = f"import django; django.setup(); from {__name__} import main; main()"


def make(part: str, folder: Path) -> dict[str, Any]:
    """Run a part of the page, in this module, in which a worker finds its tasks."""
    from django_idempotency.decorators import idempotent
    from django_idempotency.tasks import idempotent_task
    from tests.support.pages import block, run
    from tests.testapp.models import Cart, Order

    def make_receipt(order_id: int) -> None:
        Cart.objects.create(name=f"receipt {order_id}")

    queue = {"data_folder_in": str(folder), "data_folder_out": str(folder)}
    app = Celery("shop", broker="filesystem://", set_as_current=False)
    app.conf.update(broker_transport_options=queue)
    names = globals() | {
        "BaseCommand": BaseCommand,
        "JsonResponse": JsonResponse,
        "idempotent": idempotent,
        "idempotent_task": idempotent_task,
        "login_required": login_required,
        "make_receipt": make_receipt,
        "place_order": lambda request: Order.objects.create(),
        "recent_orders": lambda: list(Order.objects.values_list("pk", flat=True)),
        "shared_task": app.task,
        "transaction": transaction,
    }
    code = block(PAGE, part, "def checkout")
    globals().update(run(code, names))
    return names


def check_out(part: str, folder: Path) -> Any:
    names = make(part, folder)
    request = RequestFactory().post("/pay/", headers={"Idempotency-Key": KEY})
    request.user = User.objects.get(username="ann")
    return names["checkout"](request)


def main() -> None:
    part, is_killed, folder = sys.argv[1:]
    session: Any = connection
    session.ensure_connection()
    commit = session._commit

    def commit_and_die() -> None:
        commit()
        os.kill(os.getpid(), signal.SIGKILL)

    if is_killed == "True":
        session._commit = commit_and_die
    check_out(part, Path(folder))
