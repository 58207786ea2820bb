"""Which event a verified delivery is, and which delivery can't be used."""

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.core.events import EventFacts, EventState
from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import Event, providers
from django_idempotency.webhooks.batches import bodies_of
from django_idempotency.webhooks.places import UnusableDelivery
from django_idempotency.webhooks.profiles import Found, Profile, Reply
from django_idempotency.webhooks.verifiers import HMACVerifier
from tests.support.cases import cases

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


@cases(
    "body",
    {
        "F22 empty": b"",
        "F22 not JSON": b"{",
        "F22 no UTF-8": b"\xff\xfe{}",
        "byte order mark": b"\xef\xbb\xbf{}",
        "F22 latin-1": '{"id": "é"}'.encode("latin-1"),
        "F22 utf-16": '{"id": "evt_1"}'.encode("utf-16"),
        "F22 empty list": b"[]",
        "F22 list": b'[{"id": "evt_1"}]',
        "F22 number": b"1",
        "F22 null": b"null",
        "F22 string": b'"evt_1"',
        "F22 deep list": b"[" * 100_000,
        "F22 deep object": b'{"a":' * 100_000,
        "number of 5,000 digits": b"9" * 5_000,
    },
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


@cases(
    "content",
    {
        "FR-092 no id": {},
        "FR-092 null": {"id": None},
        "FR-092 0": {"id": 0},
        "F25 number with a fraction": {"id": 1.0},
        "huge number": {"id": 1e300},
        "no number": {"id": float("nan")},
        "F25 truth": {"id": True},
        "FR-092 empty": {"id": ""},
        "F25 list": {"id": []},
        "F25 object": {"id": {"id": "evt_1"}},
        "FR-092 NUL": {"id": "evt\0"},
        "half a surrogate pair": {"id": "\ud800"},
        "account is an object": {"id": "evt_1", "account": {"id": "acct_1"}},
        "account is a list": {"id": "evt_1", "account": ["acct_1"]},
        "account with NUL": {"id": "evt_1", "account": "acct\0"},
    },
)
def test_event_without_usable_identity_is_refused(content: dict[str, Any]) -> None:
    """FR-092: two of them must never be one."""
    with pytest.raises(UnusableDelivery):
        _found(content)


@pytest.mark.parametrize("number", [1, -7, 2**53 + 1, 10**100])
def test_id_may_be_a_whole_number(number: int) -> None:
    """To the last digit: two of them must never be one."""
    found = _found({"id": number})

    assert (found.id, found.data) == (str(number), {"id": number})
    assert found.id != _found({"id": number + 1}).id
    two = _found({"code": "PAID", "reference": number}, TWO_PARTS)
    assert two.id == f"PAID:{number}"


@pytest.mark.parametrize(
    "headers", [{}, {"X-Id": ""}, {"X-Id": "a\0"}, {"X-Id": "a\udce9"}], ids=ascii
)
def test_header_without_usable_id_is_refused(headers: dict[str, str]) -> None:  # FR-092
    with pytest.raises(UnusableDelivery):
        _found({}, BY_HEADER, headers)


@pytest.mark.parametrize("content", [{"code": "PAID"}, {"reference": "1"}])
def test_every_part_of_an_id_must_be_there(content: dict[str, str]) -> None:
    with pytest.raises(UnusableDelivery):
        _found(content, TWO_PARTS)


@pytest.mark.parametrize("fact", ["id", "account"])
def test_parts_of_an_identity_do_not_run_together(fact: str) -> None:
    """Or whoever names one could hide the events of another."""
    profile = replace(TWO_PARTS, account=TWO_PARTS.id)
    found = {
        getattr(_found({"code": code, "reference": reference}, profile), fact)
        for code, reference in [("a:b", "c"), ("a", "b:c"), ("a%3Ab", "c")]
    }

    assert len(found) == 3


@pytest.mark.parametrize("length", [255, 256, 5_000, 100_000])
def test_long_ids_and_accounts_stay_apart(length: int) -> None:
    """F25: folded, never cut; and as they are up to 255 characters."""
    texts = ["é" * (length - 1) + last for last in "ab"]
    ids = [_found({"id": each}).id for each in texts]
    accounts = [_found({"id": "1", "account": each}).account for each in texts]

    for found in (ids, accounts):
        assert found[0] != found[1]
        assert max(map(len, found)) <= 255
        assert (found == texts) is (length <= 255)
    # Nor does anybody else get what a long one is folded to.
    assert (_found({"id": ids[0]}).id == ids[0]) is (length <= 255)


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
def test_account_and_mode_are_identity(content: dict[str, Any], account: str) -> None:
    """F28: one id may come in test and live mode, and of two connected accounts."""
    assert _found({"id": "evt_1", **content}).account == account


@pytest.mark.parametrize("value", [None, [], {}, "a\0", "\ud800"])
def test_odd_type_or_object_loses_no_event(value: Any) -> None:
    found = _found({"id": "evt_1", "type": value, "data": {"object": {"id": value}}})

    assert (found.type, found.object_key) == ("", "")
    if isinstance(value, str):
        assert _found({}, BY_HEADER, {"X-Id": "1", "X-Type": value}).type == ""


INSTANT = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        (1_700_000_000, INSTANT),
        ("1700000000", INSTANT),
        (1_700_000_000_000, INSTANT),
        ("1700000000000", INSTANT),
        (1_700_000_000_250, INSTANT + timedelta(milliseconds=250)),
        (0.5, datetime(1970, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("2023-11-14T22:13:20Z", INSTANT),
        ("2023-11-14T23:13:20+01:00", INSTANT),
        ("2023-11-14T22:13:20", INSTANT),
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
    read = {"X-Id": "1", "X-Type": "paid"}
    secret = {"X-Signature": "s", "Authorization": "Bearer s", "Cookie": "sessionid=s"}

    assert _found({}, BY_HEADER, read | secret).headers == read


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
    ids=str,
)
def test_batch_is_used_as_a_whole_or_not_at_all(content: dict[str, Any]) -> None:
    with pytest.raises(UnusableDelivery):
        providers.GOCARDLESS.events(delivery(json.dumps(content).encode()), content)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(
    envelope=st.dictionaries(st.text(), JSON_VALUES, max_size=3),
    items=st.lists(JSON_VALUES, min_size=1, max_size=4),
    indent=st.sampled_from([None, 0, "\t"]),
    is_ascii=st.booleans(),
)
def test_batch_is_cut_into_bodies_with_one_item_each(
    envelope: dict[str, Any], items: list[Any], indent: Any, is_ascii: bool
) -> None:
    envelope |= {"events": {**envelope, "all": items}}
    text = json.dumps(envelope, indent=indent, ensure_ascii=is_ascii)

    for body, item in zip(bodies_of(text.encode(), "events.all"), items, strict=True):
        expected = {**envelope, "events": {**envelope["events"], "all": [item]}}
        assert json.loads(body) == expected


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


FACTS = EventFacts(
    id="evt_1",
    type="invoice.paid",
    source="stripe",
    account="acct_1",
    object_key="in_1",
    occurred_at=None,
    headers={},
)


def test_states_of_the_model_are_those_of_the_core() -> None:
    assert {each.name: each.value for each in ProcessedEvent.State} == {
        each.name: each.value for each in EventState
    }


def test_facts_of_an_event_are_what_its_provider_has_said() -> None:
    event = Event(
        **FACTS.by_name(),
        endpoint="payments",
        data={},
        raw=b"{}",
        attempt=1,
        row_id=uuid.uuid4(),
    )

    assert EventFacts(**event.by_name()) == FACTS


def test_one_event_at_two_endpoints_has_two_rows() -> None:
    ids = {FACTS.identity_at(endpoint).row_id for endpoint in ("one", "other")}

    assert len(ids) == 2
