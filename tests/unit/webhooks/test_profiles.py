"""Which event a verified delivery is, and which delivery can't be used."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_idempotency.webhooks import providers
from django_idempotency.webhooks.profiles import (
    Found,
    Profile,
    Reply,
    UnusableDelivery,
)
from django_idempotency.webhooks.verifiers import HMACVerifier

from .deliveries import delivery

PROFILE = Profile(
    name="acme",
    verifier=HMACVerifier(header="X-Signature"),
    id="id",
    type="type",
    account=("account", "livemode"),
    object_key="data.object.id",
    occurred_at="created",
)
TWO_PARTS = replace(PROFILE, id=("code", "reference"))
BY_HEADER = replace(PROFILE, id="header:X-Id", type="header:X-Type")


def _found(
    content: Any, profile: Profile = PROFILE, headers: dict[str, str] | None = None
) -> Found:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    sent = delivery(body, headers)
    (found,) = profile.events(sent, profile.parse(sent))
    return found


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        '{"id": "é"}'.encode("latin-1"),
        '{"id": "evt_1"}'.encode("utf-16"),
        b"[]",
        b'[{"id": "evt_1"}]',
        b"1",
        b"null",
        b'"evt_1"',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 5_000,
    ],
    ids=[
        "F22 empty",
        "F22 not JSON",
        "F22 no UTF-8",
        "byte order mark",
        "F22 latin-1",
        "F22 utf-16",
        "F22 empty list",
        "F22 list",
        "F22 number",
        "F22 null",
        "F22 string",
        "F22 deep list",
        "F22 deep object",
        "number of 5,000 digits",
    ],
)
def test_body_that_is_no_object_cannot_be_used(body: bytes) -> None:
    with pytest.raises(UnusableDelivery):
        PROFILE.parse(delivery(body))


def test_form_that_is_no_text_cannot_be_used() -> None:
    with pytest.raises(UnusableDelivery):
        providers.TWILIO.parse(delivery(b"\xff"))


def test_id_is_the_one_that_the_handler_sees() -> None:
    """F23: of two keys of one name, both take the same."""
    found = _found(b'{"id": "a", "id": "b"}')

    assert (found.id, found.data) == ("b", {"id": "b"})


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"id": None},
        {"id": 0},
        {"id": 1},
        {"id": True},
        {"id": ""},
        {"id": []},
        {"id": {"id": "evt_1"}},
        {"id": "evt\0"},
        {"id": "\ud800"},
        {"id": "evt_1", "account": {"id": "acct_1"}},
        {"id": "evt_1", "account": ["acct_1"]},
        {"id": "evt_1", "account": "acct\0"},
    ],
    ids=[
        "FR-092 no id",
        "FR-092 null",
        "FR-092 0",
        "F25 number",
        "F25 truth",
        "FR-092 empty",
        "F25 list",
        "F25 object",
        "FR-092 NUL",
        "half a surrogate pair",
        "account is an object",
        "account is a list",
        "account with NUL",
    ],
)
def test_event_without_usable_identity_is_refused(content: dict[str, Any]) -> None:
    """FR-092: two of them must never be one."""
    with pytest.raises(UnusableDelivery):
        _found(content)


@pytest.mark.parametrize(
    "headers", [{}, {"X-Id": ""}, {"X-Id": "a\0"}], ids=["none", "empty", "NUL"]
)
def test_header_without_usable_id_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(UnusableDelivery):
        _found({}, BY_HEADER, headers)


@pytest.mark.parametrize("missing", ["code", "reference"])
def test_every_part_of_an_id_must_be_there(missing: str) -> None:
    content = {"code": "PAID", "reference": "1"}
    del content[missing]

    with pytest.raises(UnusableDelivery):
        _found(content, TWO_PARTS)


def test_parts_of_an_id_do_not_run_together() -> None:
    ids = {
        _found({"code": code, "reference": reference}, TWO_PARTS).id
        for code, reference in [("a:b", "c"), ("a", "b:c"), ("a%3Ab", "c")]
    }

    assert len(ids) == 3


@pytest.mark.parametrize("length", [255, 256, 5_000, 100_000])
def test_long_ids_stay_apart(length: int) -> None:
    """F25: folded, never cut."""
    ids = [_found({"id": "x" * (length - 1) + last}).id for last in "ab"]

    assert ids[0] != ids[1]
    assert max(map(len, ids)) <= 255


def test_id_is_kept_as_it_is_up_to_255_characters() -> None:
    assert _found({"id": "é" * 255}).id == "é" * 255


def test_long_account_is_folded() -> None:
    accounts = {
        _found({"id": "1", "account": "x" * 300 + last}).account for last in "ab"
    }

    assert {len(account) for account in accounts} == {71}
    assert len(accounts) == 2


@pytest.mark.parametrize(
    ("content", "account"),
    [
        ({"account": "acct_1", "livemode": True}, "acct_1:true"),
        ({"account": "acct_1", "livemode": False}, "acct_1:false"),
        ({"account": "acct_2", "livemode": True}, "acct_2:true"),
        ({"livemode": True}, "true"),
        ({"account": 12}, "12"),
        ({}, ""),
    ],
)
def test_account_and_mode_are_part_of_the_identity(
    content: dict[str, Any], account: str
) -> None:
    """F28: one id may come in test and live mode, and of two connected accounts."""
    assert _found({"id": "evt_1", **content}).account == account


@pytest.mark.parametrize("value", [None, [], {}, "a\0", "\ud800"])
def test_odd_type_or_object_loses_no_event(value: Any) -> None:
    found = _found({"id": "evt_1", "type": value, "data": {"object": {"id": value}}})

    assert (found.type, found.object_key) == ("", "")


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        (1_700_000_000, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("1700000000", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (0.5, datetime(1970, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("2023-11-14T22:13:20Z", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("2023-11-14T23:13:20+01:00", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("2023-11-14T22:13:20", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("2023-13-45T99:00:00Z", None),
        ("yesterday", None),
        ("9" * 5_000, None),
        (10**30, None),
        (-(10**30), None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        ({}, None),
        (None, None),
    ],
)
def test_time_that_cannot_be_read_is_none(value: Any, instant: datetime | None) -> None:
    assert _found({"id": "evt_1", "created": value}).occurred_at == instant


def test_only_headers_that_the_profile_reads_are_kept() -> None:
    headers = {
        "X-Id": "1",
        "X-Type": "paid",
        "X-Signature": "secret",
        "Authorization": "Bearer secret",
        "Cookie": "sessionid=secret",
    }

    found = _found({}, BY_HEADER, headers)

    assert found.headers == {"X-Id": "1", "X-Type": "paid"}


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"events": []},
        {"events": {}},
        {"events": "evt_1"},
        {"events": [1]},
        {"events": [None]},
        {"events": [{"id": "evt_1"}, {}]},
    ],
    ids=["none", "empty", "object", "text", "number", "null", "one without id"],
)
def test_batch_is_used_as_a_whole_or_not_at_all(content: dict[str, Any]) -> None:
    sent = delivery(json.dumps(content).encode())
    with pytest.raises(UnusableDelivery):
        providers.GOCARDLESS.events(sent, content)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "x" * 65},
        {"id": ()},
        {"id": ""},
        {"id": ("id", "")},
        {"acknowledge_within": timedelta(0)},
        {"retry_horizon": timedelta(-1)},
        {"rejected_status": 200},
        {"busy_status": 202},
        {"success": Reply(status=302)},
        {"success": Reply(status=500)},
    ],
    ids=str,
)
def test_profile_by_which_events_get_lost_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ImproperlyConfigured):
        replace(PROFILE, **changes)
