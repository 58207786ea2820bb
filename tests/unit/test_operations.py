from __future__ import annotations

import uuid
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.fingerprints import fingerprint_of
from django_idempotency.operations import Operation, Scope, StoredAnswer

SCOPE = Scope(principal="auth.User:1", method="POST", path="/orders/")
OPERATION = Operation(
    scope=SCOPE,
    key="k",
    fingerprint=fingerprint_of(b"payload"),
    wait=timedelta(seconds=5),
    retention=timedelta(hours=48),
)

# Few characters, so that parts often run together to the same text.
parts = st.text("a|\0é\ud800", max_size=3)
identities = st.tuples(parts, parts, parts, parts)


def record_id(identity: tuple[str, str, str, str]) -> uuid.UUID:
    principal, method, path, key = identity
    scope = Scope(principal=principal, method=method, path=path)
    return replace(OPERATION, scope=scope, key=key).record_id


def test_record_id_is_a_uuid_of_version_8() -> None:
    assert (OPERATION.record_id.version, OPERATION.record_id.variant) == (
        8,
        uuid.RFC_4122,
    )


@given(identities, identities)
def test_record_ids_are_equal_exactly_if_scope_and_key_are(
    one: tuple[str, str, str, str], other: tuple[str, str, str, str]
) -> None:
    assert (record_id(one) == record_id(other)) == (one == other)


@pytest.mark.parametrize(
    "moved",
    [
        pytest.param(("u", "P", "OST/", "k"), id="between-method-and-path"),
        pytest.param(("uP", "OST", "/", "k"), id="between-principal-and-method"),
        pytest.param(("u", "POST", "/k", ""), id="between-path-and-key"),
        pytest.param(("", "uPOST", "/", "k"), id="from-the-principal"),
        pytest.param(("u|POST", "", "/", "k"), id="by-the-separator"),
    ],
)
def test_parts_of_scope_and_key_never_run_together(
    moved: tuple[str, str, str, str],
) -> None:
    assert record_id(moved) != record_id(("u", "POST", "/", "k"))


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(
            replace(OPERATION, fingerprint=fingerprint_of(b"other")), id="fingerprint"
        ),
        pytest.param(replace(OPERATION, wait=timedelta(0)), id="wait"),
        pytest.param(replace(OPERATION, retention=timedelta(1)), id="retention"),
    ],
)
def test_record_id_depends_on_nothing_but_scope_and_key(changed: Operation) -> None:
    assert changed.record_id == OPERATION.record_id


def test_scope_reads_as_principal_method_and_path() -> None:
    assert str(SCOPE) == "auth.User:1|POST|/orders/"


@pytest.mark.parametrize(
    ("value", "field"),
    [
        pytest.param(SCOPE, "path", id="scope"),
        pytest.param(OPERATION, "key", id="operation"),
        pytest.param(
            StoredAnswer(status=200, headers=(), body=None), "status", id="answer"
        ),
    ],
)
def test_values_are_frozen(value: object, field: str) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(value, field, "x")
