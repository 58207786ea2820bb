import json
import re
import sys
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate
from typing import Any
from unittest.mock import patch

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from django_idempotency.core import canonical_json as long_documents
from django_idempotency.core.canonical_json import MAX_DEPTH
from django_idempotency.core.fingerprints import (
    Fingerprint,
    canonical_bytes,
    canonical_form,
    canonical_json,
    canonical_pairs,
    canonical_query,
    fingerprint_of,
)
from tests.support.cases import cases

MEGABYTE = 1_000_000


def as_json(text: str) -> bytes:
    return b"".join(canonical_json(text.encode()))


def is_canonical(text: str) -> bool:
    """Whether the body counts by its meaning and not byte by byte."""
    return as_json(text).startswith(b"json:")


@cases(
    "one, other",
    {
        "members": ('{"a":1,"b":[1,2]}', '{ "b": [1,2], "a": 1 }'),
        "inner-members": ('{"a":{"x":1,"y":2}}', '{"a":{"y":2,"x":1}}'),
        "escape": ('"caf\\u00e9"', '"café"'),
        "case-of-an-escape": ('"\\u00E9"', '"\\u00e9"'),
        "surrogate-pair": ('"\\ud83d\\ude00"', '"😀"'),
        "escaped-slash": ('"\\/"', '"/"'),
        "escape-in-a-name": ('{"caf\\u00e9":1}', '{"café":1}'),
        "white-space": ("[1,\r\n\t2]", "[1,2]"),
        "integer-and-fraction": ("1", "1.0"),
        "negative-exponent": ("1", "10e-1"),
        "positive-exponent": ("100", "1E+2"),
        "zeros-at-both-ends": ("0.0010", "1e-3"),
        "minus-zero": ("0", "-0"),
        "zero-with-an-exponent": ("0", "0.000e99"),
        "more-digits-than-python-s-int-takes": ("1" + "0" * 5_000, "1e5000"),
        "never-expanded": ("1e999999999", "10e999999998"),
    },
)
def test_equal_documents_are_equal(one: str, other: str) -> None:
    assert as_json(one) == as_json(other)


@cases(
    "one, other",
    {
        "order-of-a-list": ("[1,2]", "[2,1]"),
        "amounts": ("10", "12"),
        "sign": ("1", "-1"),
        "number-and-string": ("1", '"1"'),
        "number-and-boolean": ("1", "true"),
        "zero-and-false": ("0", "false"),
        "null-and-empty": ("null", '""'),
        "kinds-of-empty": ("{}", "[]"),
        "null-and-absent": ('{"a":null}', "{}"),
        "beyond-a-float": ("9007199254740993", "9007199254740992"),
        "near-a-float": ("0.1", "0.1000000000000000055511151231257827"),
        "beyond-28-digits": ("1." + "0" * 30 + "1", "1." + "0" * 30 + "2"),
        "both-infinite-as-floats": ("1e400", "1e401"),
        "both-zero-as-floats": ("1e-400", "1e-401"),
        "unicode-is-not-normalised": ('"é"', '"e\\u0301"'),
        "case": ('"a"', '"A"'),
        "blank-in-a-string": ('"a"', '"a "'),
        "lone-surrogates": ('"\\ud800"', '"\\udc00"'),
        "looks-like-our-number": ('{"#":"1e0"}', "1"),
        "looks-like-our-object": ('{"{":[["a",1]]}', '{"a":1}'),
        "both-our-names": ('{"{":{"#":1}}', '{"#":{"{":1}}'),
    },
)
def test_different_documents_differ(one: str, other: str) -> None:
    assert as_json(one) != as_json(other)


@cases(
    "body",
    {
        "empty": b"",
        "only-white-space": b" ",
        "cut-off": b"{",
        "duplicate-members": b'{"a":1,"a":2}',
        "duplicate-by-an-escape": b'{"a":1,"\\u0061":1}',
        "inner-duplicate-members": b'[{"x":{"a":1,"a":1}}]',
        "nan": b"NaN",
        "infinity": b"[Infinity]",
        "minus-infinity": b'{"a":-Infinity}',
        "byte-order-mark": b"\xef\xbb\xbf{}",
        "utf-16": b"\xff\xfe{\0}\0",
        "latin-1": b'"\xe9"',
        "literal-surrogate": b'"\xed\xa0\x80"',
        "literal-nul": b'"\0"',
        "literal-newline-in-a-string": b'"\n"',
        "leading-zero": b"01",
        "no-digits-after-the-point": b"1.",
        "plus-sign": b"+1",
        "absurd-exponent": b"1e9999999999999999999",
        "single-quotes": b"{'a':1}",
        "trailing-comma": b'{"a":1,}',
        "two-documents": b"{} {}",
        "a-thousand-deep": b"[" * 1_000 + b"]" * 1_000,
        "a-hundred-thousand-open": b"[" * 100_000,
    },
)
def test_odd_body_counts_byte_by_byte(body: bytes) -> None:
    assert canonical_json(body, exclude=("a",)) == canonical_bytes(body)


# JSON documents, and the ways to spell one of them.

# Few and confusable, so that two documents are often nearly equal, and so that names of
# the canonical form's own making, and the marks on the way to it, appear as the client's.
_names = st.sampled_from(
    [*"ab:é{}[,#\0\1", "1e0", "", "\ud800", '"\\/', "\0021e0\3", "NaN", "[[]]}", "😀"]
)
_integers = st.integers(-20, 20) | st.integers()
_numbers = st.builds(
    lambda digits, exponent: Fraction(digits) * Fraction(10) ** exponent,
    _integers,
    st.integers(-3, 3) | st.integers(-40, 40),
)
documents = st.recursive(
    st.none() | st.booleans() | _names | st.text(max_size=5) | _numbers,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3)
    ),
    max_leaves=10,
)
_blanks = st.text(" \t\r\n", max_size=2)


@st.composite
def spelling_of(draw: st.DrawFn, document: Any) -> str:
    """Return one of the texts that mean the document."""

    def spelled(value: Any) -> str:
        match value:
            case None:
                text = "null"
            case bool():
                text = "true" if value else "false"
            case str():
                text = _string(draw, value)
            case Fraction():
                text = _number(draw, value)
            case list():
                text = f"[{draw(_blanks)}{','.join(map(spelled, value))}]"
            case dict():
                members = draw(st.permutations(list(value.items())))
                inner = ",".join(
                    f"{draw(_blanks)}{_string(draw, name)}{draw(_blanks)}:{spelled(each)}"
                    for name, each in members
                )
                text = f"{{{draw(_blanks)}{inner}}}"
            case _:
                raise AssertionError(value)
        return f"{draw(_blanks)}{text}{draw(_blanks)}"

    return spelled(document)


def meaning(text: str) -> Any:
    """Read JSON by another way than the package: exact, and with types told apart."""
    return json.loads(
        text,
        parse_int=lambda literal: ("number", Fraction(literal)),
        parse_float=lambda literal: ("number", Fraction(literal)),
        object_pairs_hook=lambda pairs: ("object", frozenset(_hashable(pairs))),
    )


def _hashable(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    if isinstance(value, tuple):
        return ("tuple", *map(_hashable, value))
    return ("bool", value) if isinstance(value, bool) else value


def _string(draw: st.DrawFn, value: str) -> str:
    return '"' + "".join(_character(draw, each) for each in value) + '"'


def _character(draw: st.DrawFn, character: str) -> str:
    short = json.dumps(character, ensure_ascii=False)[1:-1]
    long = json.dumps(character)[1:-1]
    if ord(character) < 0x10000:
        long = f"\\u{ord(character):04x}"
    choices = [long, long.upper().replace("\\U", "\\u")]
    if not 0xD800 <= ord(character) < 0xE000:
        choices.append(short)
    if character == "/":
        choices.append("\\/")
    return draw(st.sampled_from(choices))


def _number(draw: st.DrawFn, value: Fraction) -> str:
    """Spell the number with a shifted decimal point and zeros to spare."""
    shift = draw(st.integers(0, 4))
    scaled, exponent = abs(value), 0
    while scaled.denominator != 1:
        scaled, exponent = scaled * 10, exponent - 1
    digits = str(scaled.numerator) + "0" * shift
    exponent -= shift
    point = draw(st.integers(0, min(4, len(digits) - 1))) if value else shift
    whole, fraction = digits[: len(digits) - point], digits[len(digits) - point :]
    exponent += point
    text = ("-" if value < 0 else "") + whole + (f".{fraction}" if fraction else "")
    if exponent or draw(st.booleans()):
        sign = "-" if exponent < 0 else draw(st.sampled_from(["", "+"]))
        zeros = draw(st.sampled_from(["", "0"]))
        text += f"{draw(st.sampled_from('eE'))}{sign}{zeros}{abs(exponent)}"
    return text


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_spellings_of_one_document_are_equal(data: st.DataObject) -> None:
    document = data.draw(documents)
    one = data.draw(spelling_of(document))
    other = data.draw(spelling_of(document))

    assert is_canonical(one)
    assert as_json(one) == as_json(other)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_documents_are_equal_exactly_if_they_mean_the_same(data: st.DataObject) -> None:
    one, other = (data.draw(documents.flatmap(spelling_of)) for _ in range(2))

    assert (as_json(one) == as_json(other)) == (meaning(one) == meaning(other))


def nested(depth: int) -> str:
    return '[{"a":' * (depth // 2) + "1" + "}]" * (depth // 2)


# The same, written as plainly as it can be: all at once, with an object for each number.


def plainly(body: bytes, exclude: tuple[str, ...]) -> bytes:
    try:
        text = body.decode()
        if depth_of(text) > MAX_DEPTH:
            raise ValueError
        document = json.loads(
            text,
            object_pairs_hook=_plain_object,
            parse_int=_plain_number,
            parse_float=_plain_number,
            parse_constant=int,  # refuses it
        )
        if isinstance(document, dict) and "{" in document:
            document = {"{": [each for each in document["{"] if each[0] not in exclude]}
        return b"json:" + json.dumps(document, separators=(",", ":")).encode()
    except (ValueError, TypeError):
        return b"raw:" + body


def depth_of(text: str) -> int:
    brackets = re.sub(r'"(?:[^"\\]|\\.)*("|\Z)|[^][{}]', "", text, flags=re.DOTALL)
    return max(accumulate(1 if each in "[{" else -1 for each in brackets), default=0)


def _plain_object(pairs: list[tuple[str, Any]]) -> Any:
    if len(dict(pairs)) < len(pairs):
        raise ValueError
    return {"{": sorted(pairs, key=lambda pair: pair[0])}


def _plain_number(literal: str) -> Any:
    mantissa, _, exponent = literal.lower().partition("e")
    if len(exponent) > 18:
        raise ValueError
    sign, digits, shift = Decimal(mantissa).as_tuple()
    significant = "".join(map(str, digits)).strip("0")
    if not significant:
        return {"#": "0"}
    zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    shift = int(shift) + int(exponent or 0) + zeros
    return {"#": f"{'-' * sign}{significant}e{shift}"}


@st.composite
def spoilt(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """Return such a text with a piece of it taken out, or something put in."""
    text = draw(texts)
    start, end = (draw(st.integers(0, len(text))) for _ in range(2))
    odd = st.sampled_from(
        [
            *["", *'[]{}",:0-\\eé \n', "\ud800", "null", "1e9"],
            *[',"a":1', ',"a":"\\u003a"', '"a":"\\u003A\\u003a",', '"a":{"b":[]},'],
        ]
    )
    put_in: str = draw(odd)
    return text[:start] + put_in + text[max(start, end if end - start < 3 else 0) :]


spellings = documents.flatmap(spelling_of)
lists = st.lists(st.integers() | st.sampled_from([0, 10, 20_000, 10**6]), min_size=5)
JSON_TEXTS = st.one_of(
    spellings,
    spoilt(spellings),
    lists.map(json.dumps),
    spoilt(lists.map(json.dumps)),
    st.text('[]{}":,\\ue0.-+1EtrufalsnN \n'),
    st.integers(60, 68).map(nested),
)


@settings(deadline=None, max_examples=600, suppress_health_check=[HealthCheck.too_slow])
@given(
    JSON_TEXTS,
    st.sampled_from([(), ("a",), ("{", "é")]),
    st.sampled_from([1, 4, 12, 40, 16 * 1024]),
    st.sampled_from([2, 1024]),
)
@example("{1:2}", (), 1, 2)
@example('["a', (), 1, 2)
@example('{"a":1,"a":"\\u003a"}', (), 16 * 1024, 1024)
@example('{"a":"\\u003a","b":"\\u003a","c":1}', (), 12, 1024)
@example('{"a":"\\u003a","a":1,"c":1}', (), 40, 1024)
@example('{"a,":"b,c","d,":[1]}', (), 12, 1024)
@example('[{"a":1,"b":2},{"c":3,"d":[4,5]},6,{"e":7}]', (), 40, 1024)
@example('[{"a":1,"b":2},{"c":3,"d":4},{"e":5,"f":6},{"g":7}]', (), 40, 1024)
@example('["\\u007b",{"a":1},"{",2,3,4,5,6,7,8,9,10,11,12]', (), 40, 1024)
@example('{"a":"{","b":"}","c":1,"d":[1,2],"e":3,"f":4,"g":5}', (), 40, 1024)
@example('{"a":1,"b":2,"c":{"d":4,"e":5},"f":[6,7],"g":8}', (), 40, 1024)
@example('{"a":1,"bbbbbbbbb":2,"cccccccccc":3,"a":4}', (), 12, 1024)
@example("[1,2,3,,4,5,6,7,8,9,10,11,12,13,14]", (), 12, 1024)
@example("[,1,2,3,4,5,6,7,8,9,10,11,12,13,14]", (), 12, 1024)
@example('[null,"\\u007b"]', (), 1, 1024)
@example("[" * 63 + '{"a":[]}' + "]" * 63, (), 1, 2)
@example('[{"a":["b","c"],"d":"e"},"f",{}]', (), 16 * 1024, 1024)
def test_document_taken_apart_is_spelled_as_the_whole(
    text: str, exclude: tuple[str, ...], window: int, long: int
) -> None:
    body = text.encode("utf-8", "surrogatepass")
    with (
        patch.object(long_documents, "WINDOW", window),
        patch.object(long_documents, "LONG", long),
    ):
        assert b"".join(canonical_json(body, exclude)) == plainly(body, exclude)


@cases(
    "text, expected",
    {
        "deepest": (nested(MAX_DEPTH), True),
        "too-deep": (nested(MAX_DEPTH + 2), False),
        "wide": ("[" + ",".join(["[]"] * 500) + "]", True),
        "brackets-in-a-string": ('["' + "[" * 500 + '"]', True),
        "after-an-escaped-quote": ('["\\"' + "[" * 500 + '"]', True),
        "escape-escaped": ('["\\\\",' + nested(MAX_DEPTH) + "]", False),
    },
)
def test_depth_decides(text: str, expected: bool) -> None:
    assert is_canonical(text) is expected


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 2])
def test_depth_of_the_caller_does_not_matter(depth: int) -> None:
    def from_deep_inside(frames: int) -> bytes:
        if frames:
            return from_deep_inside(frames - 1)
        return as_json(nested(depth))

    assert from_deep_inside(sys.getrecursionlimit() // 2) == as_json(nested(depth))


@pytest.mark.timeout(60)
@cases(
    "body",
    {
        "open-lists": b"[" * 2 * MEGABYTE,
        "open-objects": b'{"a":' * (2 * MEGABYTE // 5),
        "many-lists": b"[]" * MEGABYTE,
        "escaped-quotes": b"[" * 65 + b'"\\' * MEGABYTE,
        "escapes-outside": b"[" * 65 + b'\\"' * MEGABYTE,
        "quotes": b"[" * 65 + b'"' * 2 * MEGABYTE,
        "backslashes": b"[" * 65 + b'"' + b"\\" * 2 * MEGABYTE,
        "quotes-and-brackets": b"[" * 65 + b'"[' * MEGABYTE,
        "deep-and-long": b"[%b1]"
        % (100 * (b"[" * 60 + b"1," * 8_500 + b"1" + b"]" * 60 + b",")),
        "digits": b"9" * 2 * MEGABYTE,
        "small-number": b"0." + b"0" * 2 * MEGABYTE + b"1",
        "zeros": b"1" + b"0" * 2 * MEGABYTE,
        "exponent": b"1e" + b"9" * 2 * MEGABYTE,
        "minus-signs": b"-" * 2 * MEGABYTE,
        "numbers": b"[" + b"1e9," * (MEGABYTE // 2) + b"1]",
        "blanks": b" " * 2 * MEGABYTE,
        "escaped-nuls": b'"' + b"\\u0000" * (MEGABYTE // 3) + b'"',
        "non-ascii": '"' + "é" * MEGABYTE + '"',
        "members": b"{" + b",".join(b'"%d":0' % n for n in range(200_000)) + b"}",
        "duplicates": b"{" + b",".join(b'"a":0' for _ in range(400_000)) + b"}",
    },
)
def test_hostile_body_costs_no_more_than_its_size(body: bytes | str) -> None:
    body = body.encode() if isinstance(body, str) else body

    assert sum(map(len, canonical_json(body))) < 8 * len(body)


@cases(
    "body, without",
    {
        "member": ('{"nonce":1,"a":2}', '{"a":2}'),
        "escaped-name": ('{"non\\u0063e":1,"a":2}', '{"a":2}'),
        "last-member": ('{"nonce":{"nonce":1}}', "{}"),
        "not-deeper": ('{"a":{"nonce":1}}', '{"a":{"nonce":1}}'),
        "not-in-a-list": ('[{"nonce":1}]', '[{"nonce":1}]'),
        "not-a-string": ('"nonce"', '"nonce"'),
        "not-another-case": ('{"Nonce":1}', '{"Nonce":1}'),
        "not-our-own-names": ('{"#":1,"{":2}', '{"#":1,"{":2}'),
    },
)
def test_excluded_member_does_not_count(body: str, without: str) -> None:
    pieces = canonical_json(body.encode(), exclude=("nonce",))

    assert b"".join(pieces) == as_json(without)


@cases(
    "one, other, equal",
    {
        "order-of-names": ("a=1&b=2", "b=2&a=1", True),
        "order-within-a-name": ("a=1&a=2", "a=2&a=1", False),
        "interleaved": ("a=1&b=0&a=2", "b=0&a=1&a=2", True),
        "absent": ("dry=1", "", False),
        "blank-value": ("a=", "", False),
        "no-equals-sign": ("a", "a=", True),
        "spellings-of-a-blank": ("a=1+2", "a=1%202", True),
        "case-of-an-escape": ("a=%7e", "a=%7E", True),
        "utf-8": ("a=%C3%A9", "a=%c3%a9", True),
        "latin-1": ("a=%E9", "a=%C3%A9", False),
        "not-utf-8": ("a=%FF", "a=%FE", False),
        # One such byte, and Django reads all of it as Latin-1, and escapes as before.
        "byte-and-escape": ("a=\udcff", "a=%FF", False),
        "beside-such-a-byte": ("a=é&b=\udcff", "a=%C3%A9&b=\udcff", False),
        "nul": ("a=%00", "a=", False),
        "semicolon": ("a=1;b=2", "a=1&b=2", False),
        "empty-pairs": ("a=1&&b=2&", "a=1&b=2", True),
        "escaped-ampersand": ("a=b%26c=d", "a=b&c=d", False),
        "name-and-value": ("ab=c", "a=bc", False),
    },
)
@pytest.mark.parametrize("canonical", [canonical_query, canonical_form])
def test_pairs_of_query_and_form(
    canonical: Callable[[bytes], bytes], one: str, other: str, equal: bool
) -> None:
    bodies = [each.encode("utf-8", "surrogateescape") for each in (one, other)]

    assert (canonical(bodies[0]) == canonical(bodies[1])) is equal


pairs = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("12")), max_size=8)


@given(pairs, st.randoms(use_true_random=False))
def test_pairs_are_equal_exactly_if_each_name_has_the_same_values(
    one: list[tuple[str, str]], random: Any
) -> None:
    other = random.sample(one, len(one))

    def by_name(pairs: list[tuple[str, str]]) -> list[list[str]]:
        return [[value for name, value in pairs if name == each] for each in "abc"]

    same = canonical_pairs(one) == canonical_pairs(other)

    assert same == (by_name(one) == by_name(other))


@cases(
    "body, exclude, without",
    {
        "field": (b"token=x&a=1", ("token",), b"a=1"),
        "escaped-name": (b"t%6Fken=x&a=1", ("token",), b"a=1"),
        "repeated": (b"token=x&token=y", ("token",), b""),
        "typo": (b"token=x&a=1", ("tokens",), b"token=x&a=1"),
    },
)
def test_excluded_field_does_not_count(
    body: bytes, exclude: tuple[str, ...], without: bytes
) -> None:
    assert canonical_form(body, exclude) == canonical_form(without)


@given(st.binary())
def test_no_form_and_no_query_raises(text: bytes) -> None:
    assert canonical_form(text, max_fields=3)[0].startswith((b"pairs:", b"raw:"))
    assert canonical_query(text)[0].startswith((b"pairs:", b"raw:"))


@given(st.lists(st.binary(max_size=3)), st.lists(st.binary(max_size=3)))
def test_parts_never_run_together(one: list[bytes], other: list[bytes]) -> None:
    same = fingerprint_of(*one) == fingerprint_of(*other)

    assert same == (one == other)


PIN = fingerprint_of(b"1234")


def secret_key(key: str, *fallbacks: str) -> override_settings:
    return override_settings(SECRET_KEY=key, SECRET_KEY_FALLBACKS=fallbacks)


def test_stored_form_names_its_version_and_fits_its_column() -> None:
    version, _, digest = PIN.sign().partition(":")

    assert (version, len(digest)) == ("1", 64)


def test_stored_form_depends_on_the_secret_key_and_does_not_show_the_digest() -> None:
    with secret_key("one"):
        one = PIN.sign()
    with secret_key("two"):
        other = PIN.sign()

    assert one != other
    assert PIN.digest.hex() not in one


@cases(
    "fallbacks, expected",
    {
        "without-fallbacks": ([], False),
        "with-the-fallback": (["old"], True),
        "with-several-fallbacks": (["older", "old"], True),
        "with-another-fallback": (["older"], False),
    },
)
def test_fr068_rotation_of_the_secret_key(fallbacks: list[str], expected: bool) -> None:
    """FR-068."""
    with secret_key("old"):
        stored = PIN.sign()

    with secret_key("new", *fallbacks):
        assert PIN.matches(stored) is expected


@cases(
    "stored, expected",
    {
        "older-release": ("0:" + "0" * 64, True),
        "newer-release": ("2:" + "0" * 64, True),
        "version-that-starts-alike": ("11:" + "0" * 64, True),
        "this-release": ("1:" + "0" * 64, False),
        "cut-off": ("1:", False),
    },
)
def test_only_fingerprint_of_version_can_mismatch(stored: str, expected: bool) -> None:
    assert PIN.matches(stored) is expected


@given(st.binary(max_size=5), st.binary(max_size=5))
def test_fingerprint_matches_exactly_its_equal(one: bytes, other: bytes) -> None:
    assert Fingerprint(one).matches(Fingerprint(other).sign()) == (one == other)
