import uuid
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta
from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.core.operations import Scope
from tests.support.values import ANSWER, OPERATION, OTHER_PAYLOAD, SCOPE

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


def test_parts_of_scope_and_key_never_run_together() -> None:
    text = "u|POST|/"
    cuts = list(combinations_with_replacement(range(len(text) + 1), 3))
    ids = {record_id((text[:a], text[a:b], text[b:c], text[c:])) for a, b, c in cuts}

    assert len(ids) == len(cuts)


def test_record_id_depends_on_nothing_but_scope_and_key() -> None:
    changed = replace(
        OPERATION, fingerprint=OTHER_PAYLOAD, wait=timedelta(5), retention=timedelta(1)
    )

    assert changed.record_id == OPERATION.record_id


def test_scope_reads_as_principal_method_and_path() -> None:
    assert str(SCOPE) == "auth.User:1|POST|/orders/"


@pytest.mark.parametrize(
    ("value", "field"), [(SCOPE, "path"), (OPERATION, "key"), (ANSWER, "status")]
)
def test_values_are_frozen(value: object, field: str) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(value, field, "x")
