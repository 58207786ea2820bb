"""What is written about a request after its answer has been sent.

It can neither delay nor fail the client: it is left undone where no connection is open
any more, where another session holds the row, and where the database refuses.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from django.db import Error, connections
from django.http.response import HttpResponseBase

from django_idempotency.conf import conf
from django_idempotency.core.history import Happening
from django_idempotency.core.operations import Operation
from django_idempotency.store import records

logger = logging.getLogger("django_idempotency")

R = TypeVar("R", bound=HttpResponseBase)


def count_replay(response: R, operation: Operation, waited: float) -> R:
    """Count a replay that came `waited` seconds after its request."""
    if not conf.IDEMPOTENCY_COUNT_REPLAYS:
        return response
    return _afterwards(
        response, operation, partial(records.count_replay, waited=waited)
    )


def note(response: R, operation: Operation, what: Happening, waited: float) -> R:
    """Note on the record what the request was told instead."""
    if not conf.IDEMPOTENCY_COUNT_REPLAYS:
        return response
    write = partial(records.add_note, what=what, waited=waited)
    return _afterwards(response, operation, write)


def note_duplicate(
    response: R, operation: Operation, first_id: uuid.UUID, waited: float
) -> R:
    """Note on the first one's record what was refused because of it."""
    if not conf.IDEMPOTENCY_COUNT_REPLAYS:
        return response
    write = partial(records.note_duplicate, first_id=first_id, waited=waited)
    return _afterwards(response, operation, write)


def hold(response: R, operation: Operation, waited: float) -> R:
    """Note that the outcome is unknown, also where replays aren't counted."""
    return _afterwards(response, operation, partial(records.hold, waited=waited))


def _afterwards(
    response: R, operation: Operation, write: Callable[[Operation], None]
) -> R:
    # Called when the response is closed, after the last byte has been sent.
    closers = response._resource_closers  # type: ignore[attr-defined]
    closers.append(partial(_written, operation, write))
    return response


def _written(operation: Operation, write: Callable[[Operation], None]) -> None:
    # The look-up has left the connection open. If there is none, the response is closed
    # in another thread, where nobody would close a new connection.
    if connections[operation.using].connection is None:
        return
    try:
        write(operation)
    except Error as error:
        logger.info("A repeat was not counted: %s", type(error).__name__)
