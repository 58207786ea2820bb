"""Exceptions go from one process to another, as results of a queue do."""

import pickle
from copy import copy
from datetime import timedelta
from typing import Any

import pytest

from django_idempotency import exceptions
from django_idempotency.webhooks import NotReady, PermanentError

ARGUMENTS: dict[str, dict[str, Any]] = {
    "StoreUnavailable": {"is_disconnect": True},
    "StoreBusy": {},
    "OperationInFlight": {"retry_after": timedelta(seconds=3)},
    "CallRefused": {"step": "charge", "error": "Declined", "message": "No."},
}
"""What each is made of that isn't made of a sentence."""

EVERY = [
    *(
        each
        for each in vars(exceptions).values()
        if isinstance(each, type) and each.__module__ == exceptions.__name__
    ),
    NotReady,
    PermanentError,
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("carried", [copy, None], ids=["copied", "pickled"])
@pytest.mark.parametrize("error_type", EVERY)
def test_error_comes_out_of_another_process_as_it_went_in(
    error_type: type[Exception], carried: Any, protocol: int
) -> None:
    given = ARGUMENTS.get(error_type.__name__)
    error = error_type("a sentence") if given is None else error_type(**given)
    error.add_note("a note")
    arrived = (
        carried(error) if carried else pickle.loads(pickle.dumps(error, protocol))  # noqa: S301
    )

    assert type(arrived) is error_type
    assert (str(arrived), vars(arrived)) == (str(error), vars(error))
