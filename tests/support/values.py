"""Values of the package that tests begin from."""

import math
from datetime import timedelta
from typing import Any

from django_idempotency.core.fingerprints import fingerprint_of
from django_idempotency.core.operations import Operation, Scope, StoredAnswer

SCOPE = Scope(principal="auth.User:1", method="POST", path="/orders/")
OPERATION = Operation(
    scope=SCOPE,
    key="k",
    fingerprint=fingerprint_of(b"payload"),
    wait=timedelta(0),
    retention=timedelta(hours=1),
    using="default",
)
OTHER_PAYLOAD = fingerprint_of(b"other")
ANSWER = StoredAnswer(status=201, headers=(("X-Order", "1"),), body=b"\x00\xff")

ANSWERS: list[Any] = [
    *("", "a\0b", "\ud800", "\ud83d\ude00", "\\u0000", "\x1f\x7f\x85\u2028", "e\u0301"),
    *(1.0, -0.0, 1e16, 1e-7, 5e-324, math.inf, -math.inf, math.nan),
    *(2**53 + 1, 10**40, -(10**4000), None, True),
    {"b": 1, "a": {"\0": [], "\udfff": {}}, "": 0},
    {2: "a", "2": "b", True: "c"},
    (1, [2.50, "2.50"]),
    "<html>502 Bad Gateway</html>",
    "x" * 100_000,
]
"""What other sides answer; a database's own JSON refuses or changes most of it."""
