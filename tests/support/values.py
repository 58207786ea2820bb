"""Values of the package that tests begin from."""

from datetime import timedelta

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
