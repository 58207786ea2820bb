from __future__ import annotations

import re
import string
import uuid

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from django_idempotency.exceptions import InvalidKey
from django_idempotency.keys import derive_key, parse_key, require_unguessable, uuid8

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


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        pytest.param("abc", "abc", id="bare"),
        pytest.param('"abc"', "abc", id="quoted"),
        pytest.param('"abc" ', "abc", id="blank-after"),
        pytest.param('\t "abc"', "abc", id="blank-before"),
        pytest.param("  abc\t", "abc", id="bare-between-blanks"),
        pytest.param(r'"a\"b"', 'a"b', id="escaped-quote"),
        pytest.param(r'"a\\b"', r"a\b", id="escaped-backslash"),
        pytest.param(r'"\\\""', r"\"", id="escapes-only"),
        pytest.param('"a,b"', "a,b", id="quoted-comma"),
        pytest.param("a;b=1", "a;b=1", id="semicolon-is-no-parameter"),
        pytest.param("'abc'", "'abc'", id="single-quotes-belong-to-it"),
        pytest.param("0", "0", id="zero"),
        pytest.param("null", "null", id="null-is-a-word"),
        pytest.param("x" * 255, "x" * 255, id="longest"),
        pytest.param('"' + '\\"' * 255 + '"', '"' * 255, id="longest-all-escaped"),
    ],
)
def test_key_is_read(raw: str, key: str) -> None:
    assert parse_key(raw) == key


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param("", "The key is empty.", id="empty"),
        pytest.param("   ", "The key is empty.", id="only-blanks"),
        pytest.param("\t", "The key is empty.", id="only-a-tab"),
        pytest.param('""', "The key is empty.", id="only-quotes"),
        pytest.param('"  "', "The key is empty.", id="only-quoted-blanks"),
        pytest.param("x" * 256, "The key is longer than 255 characters.", id="256"),
        pytest.param(
            '"' + "x" * 256 + '"', "The key is longer than 255 characters.", id="q256"
        ),
        pytest.param("x" * 3_000, "The key is longer than 255 characters.", id="3000"),
        pytest.param(
            "x" * 20_000, "The key is longer than 255 characters.", id="20000"
        ),
        pytest.param(
            '"' + "\\" * 20_000, "The key is longer than 255 characters.", id="escapes"
        ),
        pytest.param('"abc', "quoting", id="unclosed"),
        pytest.param('"', "quoting", id="one-quote"),
        pytest.param('"abc\\"', "quoting", id="closing-quote-escaped"),
        pytest.param('"abc"d', "quoting", id="text-after-the-quote"),
        pytest.param('"abc";x=1', "quoting", id="sf-parameter"),
        pytest.param('"a", "b"', "quoting", id="sent-twice-quoted"),
        pytest.param('"a","a"', "quoting", id="sent-twice-quoted-equal"),
        pytest.param(r'"a\b"', "quoting", id="escape-of-a-letter"),
        pytest.param("a,b", "sent twice", id="sent-twice"),
        pytest.param("a, a", "sent twice", id="sent-twice-equal"),
        pytest.param(",", "sent twice", id="empty-sent-twice"),
        pytest.param('abc"', "double quote", id="quote-inside-bare"),
        pytest.param("a\\b", "backslash", id="backslash-in-bare"),
        pytest.param("a b", "visible ASCII", id="blank-inside"),
        pytest.param('"a b"', "visible ASCII", id="blank-inside-quotes"),
        pytest.param("a\0b", "visible ASCII", id="nul"),
        pytest.param("a\tb", "visible ASCII", id="tab-inside"),
        pytest.param("a\r\nb", "visible ASCII", id="crlf-inside"),
        pytest.param("abc\n", "visible ASCII", id="newline-at-the-end"),
        pytest.param("a\x7f", "visible ASCII", id="del"),
        pytest.param("café", "visible ASCII", id="latin-1"),
        pytest.param("cafÃ©", "visible ASCII", id="utf-8-as-latin-1"),
        pytest.param("\N{PILE OF POO}", "visible ASCII", id="emoji"),
        pytest.param("\ud800", "visible ASCII", id="lone-surrogate"),
        pytest.param("\N{FULLWIDTH DIGIT ONE}", "visible ASCII", id="other-digits"),
        pytest.param("\xa0", "empty", id="no-break-space"),
    ],
)
def test_key_is_refused(raw: str, reason: str) -> None:
    with pytest.raises(InvalidKey, match=re.escape(reason)):
        parse_key(raw)


@settings(max_examples=10_000, deadline=None)
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
    assert parse_key(key) == parse_key(quoted(key))


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


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("f81d4fae-7dec-4d0a-a765-00a0c91e6bf6", id="uuid4"),
        pytest.param("F81D4FAE-7DEC-4D0A-A765-00A0C91E6BF6", id="uuid4-upper"),
        pytest.param("01890a5d-ac96-774b-bcce-b302099a8057", id="uuid7"),
        pytest.param("01ARZ3NDEKTSV4RRFFQ69G5FAV", id="ulid"),
        pytest.param("01arz3ndektsv4rrffq69g5fav", id="ulid-lower"),
        pytest.param("f81d4fae7dec4d0aa76500a0c91e6bf6", id="uuid4-without-hyphens"),
        pytest.param("V1StGXR8_Z5jdHi6B-myT", id="nanoid-of-21"),
        pytest.param("x" * 255, id="longest"),
    ],
)
def test_guest_may_send_key(key: str) -> None:
    require_unguessable(key)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("order-42", id="order-number"),
        pytest.param("x" * 20, id="one-character-short"),
        pytest.param("c232ab00-9414-11ec-b3c8-9f6bdeced846", id="uuid1-time"),
        pytest.param("1ec9414c-232a-6b00-b3c8-9f6bdeced846", id="uuid6-time"),
        pytest.param("919108f7-52d1-3320-9bac-f847db4148a8", id="uuid3-of-a-name"),
        pytest.param("2ed6657d-e927-568b-95e1-2665a8aea6a2", id="uuid5-of-a-name"),
        pytest.param("00000000-0000-0000-0000-000000000000", id="nil-uuid"),
        pytest.param("user@example.com/order/42/pay", id="other-characters"),
        pytest.param("V1StGXR8_Z5jdHi6B-my.", id="a-dot"),
        pytest.param("V1StGXR8_Z5jdHi6B-myT\n", id="newline-at-the-end"),
    ],
)
def test_guest_may_not_send_guessable_key(key: str) -> None:
    with pytest.raises(InvalidKey, match="unguessable"):
        require_unguessable(key)


RECORD_ID = uuid.UUID("12345678-1234-8234-9234-123456789abc")


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        pytest.param("charge", "7ef14e07-b0f7-854d-9a7f-f408f2c3e5ec", id="charge"),
        pytest.param("mail", "804e7ac4-b45e-8b2a-8023-4001b794dd7e", id="mail"),
        pytest.param("", "b28c0638-d007-8d84-96e6-dbeab4d7fdd0", id="empty"),
        pytest.param(
            "Überweisung", "e7e036e8-9db5-85a3-833e-d2402cb64d5b", id="non-ascii"
        ),
    ],
)
def test_derived_key_is_that_of_every_release(label: str, expected: str) -> None:
    assert derive_key(RECORD_ID, label) == expected


@given(st.uuids(), st.text(st.characters(exclude_categories=[])))
def test_derived_key_is_a_uuid_of_36_characters(
    record_id: uuid.UUID, label: str
) -> None:
    key = derive_key(record_id, label)

    assert (len(key), uuid.UUID(key).version, uuid.UUID(key).variant) == (
        36,
        8,
        uuid.RFC_4122,
    )


@given(st.lists(st.tuples(st.uuids(), st.text()), unique=True, max_size=20))
def test_other_record_or_label_gives_other_key(
    steps: list[tuple[uuid.UUID, str]],
) -> None:
    assert len({derive_key(*step) for step in steps}) == len(steps)


@given(st.binary(min_size=16, max_size=64))
def test_digest_becomes_uuid_with_all_its_other_bits(digest: bytes) -> None:
    fixed = 0xF << 76 | 0b11 << 62
    made = uuid8(digest)

    assert (made.version, made.int & ~fixed) == (
        8,
        int.from_bytes(digest[:16], "big") & ~fixed,
    )
