from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_idempotency.fingerprints import (
    MAX_DEPTH,
    Fingerprint,
    canonical_bytes,
    canonical_form,
    canonical_json,
    canonical_pairs,
    canonical_query,
    fingerprint_of,
)
from tests.unit.json_spellings import documents, meaning, spelling_of

MEGABYTE = 1_000_000


def as_json(text: str) -> bytes:
    return canonical_json(text.encode())


def is_canonical(text: str) -> bool:
    """Whether the body counts by its meaning and not byte by byte."""
    return as_json(text) != canonical_bytes(text.encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param('{"a":1,"b":[1,2]}', '{ "b": [1,2], "a": 1 }', id="members"),
        pytest.param('{"a":{"x":1,"y":2}}', '{"a":{"y":2,"x":1}}', id="inner-members"),
        pytest.param('"caf\\u00e9"', '"café"', id="escape"),
        pytest.param('"\\u00E9"', '"\\u00e9"', id="case-of-an-escape"),
        pytest.param('"\\ud83d\\ude00"', '"😀"', id="surrogate-pair"),
        pytest.param('"\\/"', '"/"', id="escaped-slash"),
        pytest.param('{"caf\\u00e9":1}', '{"café":1}', id="escape-in-a-name"),
        pytest.param("[1,\r\n\t2]", "[1,2]", id="white-space"),
        pytest.param("1", "1.0", id="integer-and-fraction"),
        pytest.param("1", "10e-1", id="negative-exponent"),
        pytest.param("100", "1E+2", id="positive-exponent"),
        pytest.param("0.0010", "1e-3", id="zeros-at-both-ends"),
        pytest.param("0", "-0", id="minus-zero"),
        pytest.param("0", "0.000e99", id="zero-with-an-exponent"),
        pytest.param(
            "1" + "0" * 5_000, "1e5000", id="more-digits-than-python-s-int-takes"
        ),
        pytest.param("1e999999999", "10e999999998", id="never-expanded"),
    ],
)
def test_equal_documents_are_equal(one: str, other: str) -> None:
    assert as_json(one) == as_json(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("[1,2]", "[2,1]", id="order-of-a-list"),
        pytest.param("10", "12", id="amounts"),
        pytest.param("1", "-1", id="sign"),
        pytest.param("1", '"1"', id="number-and-string"),
        pytest.param("1", "true", id="number-and-boolean"),
        pytest.param("0", "false", id="zero-and-false"),
        pytest.param("null", '""', id="null-and-empty"),
        pytest.param("{}", "[]", id="kinds-of-empty"),
        pytest.param('{"a":null}', "{}", id="null-and-absent"),
        pytest.param("9007199254740993", "9007199254740992", id="beyond-a-float"),
        pytest.param("0.1", "0.1000000000000000055511151231257827", id="near-a-float"),
        pytest.param(
            "1." + "0" * 30 + "1", "1." + "0" * 30 + "2", id="beyond-28-digits"
        ),
        pytest.param("1e400", "1e401", id="both-infinite-as-floats"),
        pytest.param("1e-400", "1e-401", id="both-zero-as-floats"),
        pytest.param('"é"', '"e\\u0301"', id="unicode-is-not-normalised"),
        pytest.param('"a"', '"A"', id="case"),
        pytest.param('"a"', '"a "', id="blank-in-a-string"),
        pytest.param('"\\ud800"', '"\\udc00"', id="lone-surrogates"),
        pytest.param('{"#":"1e0"}', "1", id="looks-like-our-number"),
        pytest.param('{"{":[["a",1]]}', '{"a":1}', id="looks-like-our-object"),
        pytest.param('{"{":{"#":1}}', '{"#":{"{":1}}', id="both-our-names"),
    ],
)
def test_different_documents_differ(one: str, other: str) -> None:
    assert as_json(one) != as_json(other)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" ", id="only-white-space"),
        pytest.param(b"{", id="cut-off"),
        pytest.param(b'{"a":1,"a":2}', id="duplicate-members"),
        pytest.param(b'{"a":1,"\\u0061":1}', id="duplicate-by-an-escape"),
        pytest.param(b'[{"x":{"a":1,"a":1}}]', id="inner-duplicate-members"),
        pytest.param(b"NaN", id="nan"),
        pytest.param(b"[Infinity]", id="infinity"),
        pytest.param(b'{"a":-Infinity}', id="minus-infinity"),
        pytest.param(b"\xef\xbb\xbf{}", id="byte-order-mark"),
        pytest.param(b"\xff\xfe{\0}\0", id="utf-16"),
        pytest.param(b'"\xe9"', id="latin-1"),
        pytest.param(b'"\xed\xa0\x80"', id="literal-surrogate"),
        pytest.param(b'"\0"', id="literal-nul"),
        pytest.param(b'"\n"', id="literal-newline-in-a-string"),
        pytest.param(b"01", id="leading-zero"),
        pytest.param(b"1.", id="no-digits-after-the-point"),
        pytest.param(b"+1", id="plus-sign"),
        pytest.param(b"1e9999999999999999999", id="absurd-exponent"),
        pytest.param(b"{'a':1}", id="single-quotes"),
        pytest.param(b'{"a":1,}', id="trailing-comma"),
        pytest.param(b"{} {}", id="two-documents"),
        pytest.param(b"[" * 1_000 + b"]" * 1_000, id="a-thousand-deep"),
        pytest.param(b"[" * 100_000, id="a-hundred-thousand-open"),
    ],
)
def test_odd_body_counts_byte_by_byte(body: bytes) -> None:
    assert canonical_json(body, exclude=("a",)) == canonical_bytes(body)


@pytest.mark.parametrize(
    "body",
    ["null", "true", "1", '"text"', "[]", "{}", '"\\ud800"', '"\\u0000"'],
    ids=lambda body: f"json-{body}",
)
def test_valid_body_counts_by_its_meaning(body: str) -> None:
    assert as_json(body) == as_json(f" {body} ")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_spellings_of_one_document_are_equal(data: st.DataObject) -> None:
    document = data.draw(documents)
    one = data.draw(spelling_of(document))
    other = data.draw(spelling_of(document))

    assert is_canonical(one)
    assert as_json(one) == as_json(other)


@settings(deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_documents_are_equal_exactly_if_they_mean_the_same(data: st.DataObject) -> None:
    one, other = (data.draw(documents.flatmap(spelling_of)) for _ in range(2))

    assert (as_json(one) == as_json(other)) == (meaning(one) == meaning(other))


@settings(deadline=None, max_examples=500)
@given(
    st.binary()
    | st.text('[]{}":,\\ue0.-+1EtrufalsnN \n').map(str.encode)
    | st.text(st.characters(exclude_categories=[])).map(
        lambda text: json.dumps(text)[:-1].encode()
    )
)
def test_no_body_raises(body: bytes) -> None:
    assert canonical_json(body).startswith((b"json:", b"raw:"))


@given(st.binary(), st.binary())
def test_no_two_bodies_run_together(one: bytes, other: bytes) -> None:
    same = canonical_json(one) == canonical_json(other)

    assert not same or one == other or meaning(one.decode()) == meaning(other.decode())


def nested(depth: int) -> str:
    return '[{"a":' * (depth // 2) + "1" + "}]" * (depth // 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(nested(MAX_DEPTH), True, id="deepest"),
        pytest.param(nested(MAX_DEPTH + 2), False, id="too-deep"),
        pytest.param("[" + ",".join(["[]"] * 500) + "]", True, id="wide"),
        pytest.param('["' + "[" * 500 + '"]', True, id="brackets-in-a-string"),
        pytest.param('["\\"' + "[" * 500 + '"]', True, id="after-an-escaped-quote"),
        pytest.param('["\\\\",' + nested(MAX_DEPTH) + "]", False, id="escape-escaped"),
    ],
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
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 2 * MEGABYTE, id="open-lists"),
        pytest.param(b'{"a":' * (2 * MEGABYTE // 5), id="open-objects"),
        pytest.param(b"[]" * MEGABYTE, id="many-lists"),
        pytest.param(b"[" * 65 + b'"\\' * MEGABYTE, id="escaped-quotes"),
        pytest.param(b"[" * 65 + b'\\"' * MEGABYTE, id="escapes-outside"),
        pytest.param(b"[" * 65 + b'"' * 2 * MEGABYTE, id="quotes"),
        pytest.param(b"[" * 65 + b'"' + b"\\" * 2 * MEGABYTE, id="backslashes"),
        pytest.param(b"[" * 65 + b'"[' * MEGABYTE, id="quotes-and-brackets"),
        pytest.param(b"9" * 2 * MEGABYTE, id="digits"),
        pytest.param(b"0." + b"0" * 2 * MEGABYTE + b"1", id="small-number"),
        pytest.param(b"1" + b"0" * 2 * MEGABYTE, id="zeros"),
        pytest.param(b"1e" + b"9" * 2 * MEGABYTE, id="exponent"),
        pytest.param(b"-" * 2 * MEGABYTE, id="minus-signs"),
        pytest.param(b"[" + b"1e9," * (MEGABYTE // 2) + b"1]", id="numbers"),
        pytest.param(b" " * 2 * MEGABYTE, id="blanks"),
        pytest.param(b'"' + b"\\u0000" * (MEGABYTE // 3) + b'"', id="escaped-nuls"),
        pytest.param('"' + "é" * MEGABYTE + '"', id="non-ascii"),
        pytest.param(
            b"{" + b",".join(b'"%d":0' % n for n in range(200_000)) + b"}", id="members"
        ),
        pytest.param(
            b"{" + b",".join(b'"a":0' for _ in range(400_000)) + b"}", id="duplicates"
        ),
    ],
)
def test_hostile_body_costs_no_more_than_its_size(body: bytes | str) -> None:
    body = body.encode() if isinstance(body, str) else body

    assert len(canonical_json(body)) < 8 * len(body)


@pytest.mark.parametrize(
    ("body", "without"),
    [
        pytest.param('{"nonce":1,"a":2}', '{"a":2}', id="member"),
        pytest.param('{"non\\u0063e":1,"a":2}', '{"a":2}', id="escaped-name"),
        pytest.param('{"nonce":{"nonce":1}}', "{}", id="last-member"),
        pytest.param('{"a":{"nonce":1}}', '{"a":{"nonce":1}}', id="not-deeper"),
        pytest.param('[{"nonce":1}]', '[{"nonce":1}]', id="not-in-a-list"),
        pytest.param('"nonce"', '"nonce"', id="not-a-string"),
        pytest.param('{"Nonce":1}', '{"Nonce":1}', id="not-another-case"),
        pytest.param('{"#":1,"{":2}', '{"#":1,"{":2}', id="not-our-own-names"),
    ],
)
def test_excluded_member_does_not_count(body: str, without: str) -> None:
    assert canonical_json(body.encode(), exclude=("nonce",)) == as_json(without)


def test_excluding_our_own_marks_excludes_members_of_these_names() -> None:
    body = b'{"#":1,"{":2,"a":3}'

    assert canonical_json(body, exclude=("{", "#")) == as_json('{"a":3}')


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        pytest.param("a=1&b=2", "b=2&a=1", True, id="order-of-names"),
        pytest.param("a=1&a=2", "a=2&a=1", False, id="order-within-a-name"),
        pytest.param("a=1&b=0&a=2", "b=0&a=1&a=2", True, id="interleaved"),
        pytest.param("dry=1", "", False, id="absent"),
        pytest.param("a=", "", False, id="blank-value"),
        pytest.param("a", "a=", True, id="no-equals-sign"),
        pytest.param("a=1+2", "a=1%202", True, id="spellings-of-a-blank"),
        pytest.param("a=%7e", "a=%7E", True, id="case-of-an-escape"),
        pytest.param("a=%C3%A9", "a=%c3%a9", True, id="utf-8"),
        pytest.param("a=%E9", "a=%C3%A9", False, id="latin-1"),
        pytest.param("a=%FF", "a=%FE", False, id="not-utf-8"),
        pytest.param("a=%00", "a=", False, id="nul"),
        pytest.param("a=1;b=2", "a=1&b=2", False, id="semicolon"),
        pytest.param("a=1&&b=2&", "a=1&b=2", True, id="empty-pairs"),
        pytest.param("a=b%26c=d", "a=b&c=d", False, id="escaped-ampersand"),
        pytest.param("ab=c", "a=bc", False, id="name-and-value"),
    ],
)
@pytest.mark.parametrize("canonical", [canonical_query, canonical_form])
def test_pairs_of_query_and_form(
    canonical: Callable[[bytes], bytes], one: str, other: str, equal: bool
) -> None:
    assert (canonical(one.encode()) == canonical(other.encode())) is equal


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


@pytest.mark.parametrize(
    ("body", "exclude", "without"),
    [
        pytest.param(b"token=x&a=1", ("token",), b"a=1", id="field"),
        pytest.param(b"t%6Fken=x&a=1", ("token",), b"a=1", id="escaped-name"),
        pytest.param(b"token=x&token=y", ("token",), b"", id="repeated"),
        pytest.param(b"token=x&a=1", ("tokens",), b"token=x&a=1", id="typo"),
    ],
)
def test_excluded_field_does_not_count(
    body: bytes, exclude: tuple[str, ...], without: bytes
) -> None:
    assert canonical_form(body, exclude) == canonical_form(without)


def test_form_with_too_many_fields_counts_byte_by_byte() -> None:
    assert canonical_form(b"a=1&b=2", max_fields=1) == canonical_bytes(b"a=1&b=2")


@given(st.binary())
def test_no_form_raises(body: bytes) -> None:
    assert canonical_form(body, max_fields=3).startswith((b"pairs:", b"raw:"))


@given(st.binary())
def test_no_query_raises(query: bytes) -> None:
    assert canonical_query(query).startswith(b"pairs:")


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


def test_stored_form_does_not_show_the_digest() -> None:
    assert PIN.digest.hex() not in PIN.sign()


def test_stored_form_depends_on_the_secret_key() -> None:
    with secret_key("one"):
        one = PIN.sign()
    with secret_key("two"):
        assert PIN.sign() != one


@pytest.mark.parametrize(
    ("fallbacks", "expected"),
    [
        pytest.param([], False, id="without-fallbacks"),
        pytest.param(["old"], True, id="with-the-fallback"),
        pytest.param(["older", "old"], True, id="with-several-fallbacks"),
        pytest.param(["older"], False, id="with-another-fallback"),
    ],
)
def test_fr068_rotation_of_the_secret_key(fallbacks: list[str], expected: bool) -> None:
    """FR-068."""
    with secret_key("old"):
        stored = PIN.sign()

    with secret_key("new", *fallbacks):
        assert PIN.matches(stored) is expected


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        pytest.param("0:" + "0" * 64, True, id="older-release"),
        pytest.param("2:" + "0" * 64, True, id="newer-release"),
        pytest.param("11:" + "0" * 64, True, id="version-that-starts-alike"),
        pytest.param("1:" + "0" * 64, False, id="this-release"),
        pytest.param("1:", False, id="cut-off"),
    ],
)
def test_only_fingerprints_of_this_version_can_mismatch(
    stored: str, expected: bool
) -> None:
    assert PIN.matches(stored) is expected


@given(st.binary(max_size=5), st.binary(max_size=5))
def test_fingerprint_matches_exactly_its_equal(one: bytes, other: bytes) -> None:
    matches = Fingerprint(one).matches(Fingerprint(other).sign())

    assert matches == (one == other)
