"""Which failures are kept, and what becomes of the view's writes."""

import pytest

from tests.support.cases import cases
from tests.support.ordering import is_replay, orders
from tests.support.records import states

from .conftest import customer
from .placement import Placement


def applies_to(placement: Placement) -> bool:
    """What another REST framework view raises, its caller gets as an answer."""
    return not placement.name.startswith("api-view-calls-")


pytestmark = [
    pytest.mark.urls("tests.integration.placements.urls"),
    pytest.mark.usefixtures("db"),
]


# What is wished for, the status, and the states that are left.
FAILURES: dict[str, tuple[dict[str, int], int, list[str]]] = {
    "returned-refusal": ({"returns": 402}, 402, ["kept"]),
    "returned-server-error": ({"returns": 503}, 503, ["released"]),
    "raised-refusal": ({"raises": 404}, 404, []),
    "crash": ({"raises": 500}, 500, ["released"]),
}


@cases("wish, status, left", FAILURES)
def test_failure_is_kept_with_its_writes_or_leaves_none(
    wish: dict[str, int],
    status: int,
    left: list[str],
    placement: Placement,
    atomic_requests: bool,
) -> None:
    """In somebody else's transaction the note of a crash goes with it (trap T3)."""
    ada = customer()
    first, again = (ada.post(placement.path, **wish) for _ in range(2))
    is_kept = left == ["kept"]
    if status == 500 and placement.is_joining(atomic_requests=atomic_requests):
        left = []

    assert (first.status_code, again.status_code) == (status, status)
    assert (is_replay(first), is_replay(again)) == (False, is_kept)
    assert again.content == first.content or not is_kept
    assert (orders(), states()) == (int(is_kept), left)
