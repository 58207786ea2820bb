import re
import string
import uuid

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from django_idempotency.core.keys import (
    PATTERN,
    derive_key,
    derived_page_key,
    fresh_page_key,
    is_owned_by,
    is_page_key,
    parse_key,
    require_unguessable,
    uuid8,
)
from django_idempotency.exceptions import InvalidKey
from tests.support.cases import cases

VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
NEEDS_QUOTES = ',"\\'


def quoted(key: str) -> str:
    """Spell the key as an sf-string (RFC 9651, 4.1.6)."""
    return '"' + re.sub(r'(["\\])', r"\\\1", key) + '"'


keys = st.text(VISIBLE, min_size=1, max_size=255)
bare_keys = st.text(
    [character for character in VISIBLE if character not in NEEDS_QUOTES],
    min_size=1,
    max_size=255,
)
# What clients get wrong is made of these far more often than of random letters.
odd_keys = (
    st.text()
    | st.text(st.sampled_from('"\\, \t\r\n\0abc\x7f\x85\xa0é😀'), max_size=40)
    | st.text(st.sampled_from('"\\a'), max_size=300)
    | st.builds(lambda key, count: key * count, st.text(min_size=1), st.just(300))
    | st.builds(lambda raw: raw.decode("latin-1"), st.binary())
)


@given(odd_keys | keys.map(quoted) | bare_keys)
@example('"' + r"\"" * 255 + '"')
@example("a" * 256)
@example("a,b")
@example("a b")
@example('""')
def test_pattern_matches_what_is_taken_and_nothing_else(raw: str) -> None:
    raw = raw.strip(" \t")  # as of every header's value (RFC 9110, 5.5)
    try:
        parse_key(raw)
    except InvalidKey:
        assert not re.fullmatch(PATTERN, raw)
    else:
        assert re.fullmatch(PATTERN, raw)


@cases(
    "raw, key",
    {
        "bare": ("abc", "abc"),
        "quoted": ('"abc"', "abc"),
        "blank-after": ('"abc" ', "abc"),
        "blank-before": ('\t "abc"', "abc"),
        "bare-between-blanks": ("  abc\t", "abc"),
        "escaped-quote": (r'"a\"b"', 'a"b'),
        "escaped-backslash": (r'"a\\b"', r"a\b"),
        "escapes-only": (r'"\\\""', r"\""),
        "quoted-comma": ('"a,b"', "a,b"),
        "semicolon-is-no-parameter": ("a;b=1", "a;b=1"),
        "single-quotes-belong-to-it": ("'abc'", "'abc'"),
        "zero": ("0", "0"),
        "null-is-a-word": ("null", "null"),
        "longest": ("x" * 255, "x" * 255),
        "longest-all-escaped": ('"' + '\\"' * 255 + '"', '"' * 255),
    },
)
def test_key_is_read(raw: str, key: str) -> None:
    assert parse_key(raw) == key


@cases(
    "raw, reason",
    {
        "empty": ("", "The key is empty."),
        "only-blanks": ("   ", "The key is empty."),
        "only-quotes": ('""', "The key is empty."),
        "only-quoted-blanks": ('"  "', "The key is empty."),
        "256": ("x" * 256, "The key is longer than 255 characters."),
        "q256": ('"' + "x" * 256 + '"', "The key is longer than 255 characters."),
        "20000": ("x" * 20_000, "The key is longer than 255 characters."),
        "escapes": ('"' + "\\" * 20_000, "The key is longer than 255 characters."),
        "unclosed": ('"abc', "quoting"),
        "one-quote": ('"', "quoting"),
        "closing-quote-escaped": ('"abc\\"', "quoting"),
        "text-after-the-quote": ('"abc"d', "quoting"),
        "sf-parameter": ('"abc";x=1', "quoting"),
        "sent-twice-quoted": ('"a", "b"', "quoting"),
        "escape-of-a-letter": (r'"a\b"', "quoting"),
        "sent-twice": ("a,b", "sent twice"),
        "empty-sent-twice": (",", "sent twice"),
        "quote-inside-bare": ('abc"', "double quote"),
        "backslash-in-bare": ("a\\b", "backslash"),
        "blank-inside": ("a b", "visible ASCII"),
        "blank-inside-quotes": ('"a b"', "visible ASCII"),
        "nul": ("a\0b", "visible ASCII"),
        "tab-inside": ("a\tb", "visible ASCII"),
        "newline-at-the-end": ("abc\n", "visible ASCII"),
        "del": ("a\x7f", "visible ASCII"),
        "latin-1": ("café", "visible ASCII"),
        "emoji": ("\N{PILE OF POO}", "visible ASCII"),
        "lone-surrogate": ("\ud800", "visible ASCII"),
        "other-digits": ("\N{FULLWIDTH DIGIT ONE}", "visible ASCII"),
        "no-break-space": ("\xa0", "empty"),
    },
)
def test_key_is_refused(raw: str, reason: str) -> None:
    with pytest.raises(InvalidKey, match=re.escape(reason)):
        parse_key(raw)


@settings(max_examples=1_000, deadline=None)
@given(odd_keys)
@example("\x00")
@example('"\\')
def test_odd_key_is_read_or_refused_and_nothing_else(raw: str) -> None:
    try:
        key = parse_key(raw)
    except InvalidKey:
        return
    assert re.fullmatch(r"[!-~]{1,255}", key)


@given(keys)
def test_quoting_a_key_does_not_change_it(key: str) -> None:
    assert parse_key(quoted(key)) == key


@given(bare_keys)
def test_bare_and_quoted_are_one_key(key: str) -> None:
    assert parse_key(key) == key


@given(keys.filter(lambda key: any(each in key for each in NEEDS_QUOTES)))
def test_key_that_needs_quotes_is_never_read_as_itself_without(key: str) -> None:
    try:
        read = parse_key(key)
    except InvalidKey:
        return
    assert key == quoted(read)


def refusal_of(raw: str) -> str:
    """The sentence with which the key is refused; empty if it isn't."""
    try:
        parse_key(raw)
    except InvalidKey as error:
        return str(error)
    return ""


@given(st.text(string.printable + '"\\é\0', max_size=2_000))
def test_refusal_never_repeats_the_key(rest: str) -> None:
    assert "S3CR3T" not in refusal_of(f"S3CR3T{rest}")


@cases(
    "key",
    {
        "uuid4": "f81d4fae-7dec-4d0a-a765-00a0c91e6bf6",
        "uuid4-upper": "F81D4FAE-7DEC-4D0A-A765-00A0C91E6BF6",
        "uuid7": "01890a5d-ac96-774b-bcce-b302099a8057",
        "ulid": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "ulid-lower": "01arz3ndektsv4rrffq69g5fav",
        "uuid4-without-hyphens": "f81d4fae7dec4d0aa76500a0c91e6bf6",
        "nanoid-of-21": "V1StGXR8_Z5jdHi6B-myT",
        "longest": "x" * 255,
    },
)
def test_guest_may_send_key(key: str) -> None:
    require_unguessable(key)


@cases(
    "key",
    {
        "order-number": "order-42",
        "one-character-short": "x" * 20,
        "uuid1-time": "c232ab00-9414-11ec-b3c8-9f6bdeced846",
        "uuid6-time": "1ec9414c-232a-6b00-b3c8-9f6bdeced846",
        "uuid3-of-a-name": "919108f7-52d1-3320-9bac-f847db4148a8",
        "uuid5-of-a-name": "2ed6657d-e927-568b-95e1-2665a8aea6a2",
        "nil-uuid": "00000000-0000-0000-0000-000000000000",
        "other-characters": "user@example.com/order/42/pay",
        "a-dot": "V1StGXR8_Z5jdHi6B-my.",
        "newline-at-the-end": "V1StGXR8_Z5jdHi6B-myT\n",
    },
)
def test_guest_may_not_send_guessable_key(key: str) -> None:
    with pytest.raises(InvalidKey, match="unguessable"):
        require_unguessable(key)


RECORD_ID = uuid.UUID("12345678-1234-8234-9234-123456789abc")


@cases(
    "label, expected",
    {
        "charge": ("charge", "7ef14e07-b0f7-854d-9a7f-f408f2c3e5ec"),
        "mail": ("mail", "804e7ac4-b45e-8b2a-8123-4001b794dd7e"),
        "empty": ("", "b28c0638-d007-8d84-96e6-dbeab4d7fdd0"),
        "non-ascii": ("Überweisung", "e7e036e8-9db5-85a3-833e-d2402cb64d5b"),
    },
)
def test_derived_key_is_that_of_every_release(label: str, expected: str) -> None:
    assert derive_key(RECORD_ID, label) == expected


@given(st.uuids(), st.text(st.characters(exclude_categories=[])))
def test_derived_key_is_uuid_of_36_characters(record_id: uuid.UUID, label: str) -> None:
    key = derive_key(record_id, label)

    assert (len(key), uuid.UUID(key).version, uuid.UUID(key).variant) == (
        36,
        8,
        uuid.RFC_4122,
    )


@given(st.lists(st.tuples(st.uuids(), st.text()), unique=True, max_size=20))
def test_other_record_or_label_is_other_key(steps: list[tuple[uuid.UUID, str]]) -> None:
    assert len({derive_key(*step) for step in steps}) == len(steps)


@given(st.binary(min_size=16, max_size=64))
def test_digest_becomes_uuid_with_all_its_other_bits(digest: bytes) -> None:
    made, byte = uuid8(digest), digest[8] & 0x3F or 1  # see `uuid8`
    digest = digest[:8] + bytes([byte]) + digest[9:16]

    assert (made.version, made.variant) == (8, uuid.RFC_4122)
    fixed = 0xF << 76 | 0b11 << 62
    assert made.int & ~fixed == int.from_bytes(digest, "big") & ~fixed


@given(st.text(), st.text(), st.lists(st.text(), max_size=3))
def test_page_key_is_its_owner_s_and_one_that_guests_may_send(
    owner: str, other: str, parts: list[str]
) -> None:
    for key in (fresh_page_key(owner), derived_page_key(owner, *parts)):
        require_unguessable(key)
        assert (parse_key(key), len(key), is_page_key(key)) == (key, 50, True)
        assert is_owned_by(key, owner)
        assert is_owned_by(key, other) is (other == owner)


@given(st.text(), st.integers(5, 49), st.sampled_from("Aa0_-"))
def test_page_key_that_was_changed_is_nobody_s(
    owner: str, place: int, letter: str
) -> None:
    key = fresh_page_key(owner)
    changed = key[:place] + letter + key[place + 1 :]

    assert changed == key or not (is_page_key(changed) and is_owned_by(changed, owner))
