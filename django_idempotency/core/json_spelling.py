"""One window of a document in its one spelling, by the decoder and encoder in C."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from operator import eq
from typing import Any

MAX_EXPONENT_DIGITS = 18

# Note [Canonical JSON without a serialiser of our own]
# Objects become {"{": [[name, value], …]}, sorted, and numbers {"#": "digits e exponent"}.
# Nothing else can become a dict, so that is unambiguous. There are two ways to it.
#
# The decoder's hooks make them, and the C encoder writes them. In long documents, where
# a call for each object is the most of the price, C makes plain dicts, which it writes
# with sorted names, and replacements in that text do the rest. Control characters, which
# are never bare in a string, part names (NUL) and elements (SOH); a number is a string
# between STX and ETX. Strings that could be mistaken for any of that go the first way.
_OBJECT = "{"
_NUMBER = "#"
ODD_ESCAPES = (rb"\u000", rb"\u003", rb"\u007")
"""How escapes of our marks, of colons and of braces begin."""
_NEXT_NAME = re.compile(rb'\x01(?="[^"\\]*+(?:\\.[^"\\]*+)*+"\0)', re.DOTALL)
_ZEROS = frozenset({"0", "-0"})
_CUT = float("nan")
"""Written between members, to find where one ends: nothing else is NaN."""


def _marked_integer(literal: str) -> str:
    return f"\2{literal}e0\3" if literal[-1] != "0" else f"\2{_rounded(literal)}\3"


def _integer(literal: str) -> dict[str, str]:
    return {_NUMBER: literal + "e0" if literal[-1] != "0" else _rounded(literal)}


def _rounded(literal: str) -> str:
    digits = literal.rstrip("0")
    return f"{digits}e{len(literal) - len(digits)}" if digits.strip("-") else "0"


def _marked_decimal(literal: str) -> str:
    # In one function: of a list of prices, the calls are the most of the price.
    whole, _, fraction = literal.partition(".")
    if fraction.isdigit() and fraction[-1] != "0" and whole not in _ZEROS:
        return f"\2{whole}{fraction}e-{len(fraction)}\3"
    return f"\2{_number(literal)}\3"


def _number(literal: str) -> str:
    mantissa, _, exponent_text = literal.lower().partition("e")
    if len(exponent_text) > MAX_EXPONENT_DIGITS:
        raise ValueError("huge exponent")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return "0"
    exponent = int(exponent_text or 0) - len(fraction)
    exponent += len(digits) - len(significant)
    return f"{sign}{significant}e{exponent}"


def _refuse_constant(literal: str) -> Any:
    raise ValueError(f"{literal} is not JSON")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > 1:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("duplicate members")
        pairs.sort()  # by the names: no two are equal, so no value is looked at
    return {_OBJECT: pairs}


_DECODER = json.JSONDecoder(
    parse_int=_marked_integer,
    parse_float=_marked_decimal,
    parse_constant=_refuse_constant,
)
_HOOKED_DECODER = json.JSONDecoder(
    object_pairs_hook=_members,
    parse_int=_integer,
    parse_float=lambda literal: {_NUMBER: _marked_decimal(literal)[1:-1]},
    parse_constant=_refuse_constant,
)
_ENCODER = json.JSONEncoder(
    separators=("\1", "\0"), sort_keys=True, check_circular=False
)
_HOOKED_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)


def spelled(text: bytes, exclude: Collection[str] = ()) -> bytes:
    document = _HOOKED_DECODER.decode(text.decode())
    if exclude and isinstance(document, dict) and _OBJECT in document:
        members = [pair for pair in document[_OBJECT] if pair[0] not in exclude]
        document = {_OBJECT: members}
    return _HOOKED_ENCODER.encode(document).encode("ascii")


def row_spelled(row: bytes, is_odd: bool) -> bytes:
    """Return what stands in a list, in its spelling."""
    text = b"[%b]" % row
    if is_odd:
        return spelled(text)[1:-1]
    return _finished(_encoded(_DECODER.decode(text.decode())), text)[1:-1]


def members_spelled(row: bytes, is_odd: bool) -> tuple[list[str], list[str]]:
    """Return the names of what stands in an object, and each member's spelling."""
    text = b"{%b}" % row
    if is_odd:
        pairs = _HOOKED_DECODER.decode(text.decode())[_OBJECT]
    else:
        pairs = list(_DECODER.decode(text.decode()).items())
    between: list[Any] = [_CUT] * (2 * len(pairs) - 1)
    between[::2] = pairs
    encoded = _encoded(between).replace(b"\1NaN\1", b"\n")
    if is_odd:
        encoded = encoded.replace(b"\1", b",").replace(b"\0", b":")
    else:
        encoded = _finished(encoded, text, len(pairs))
    return [name for name, _ in pairs], encoded[1:-1].decode("ascii").split("\n")


def _encoded(document: Any) -> bytes:
    return _ENCODER.encode(document).encode("ascii")


def _finished(encoded: bytes, text: bytes, pairs: int = 0) -> bytes:
    """Make our objects and numbers of the encoder's; `pairs` are members already."""
    members = encoded.count(b"\0")
    # The strings have as many colons in both, and each member has one of its own. Of
    # two equal members the dict has kept one.
    if b"{" in text and text.count(b":") - encoded.count(b":") != members + pairs:
        raise ValueError("duplicate members")
    if members:
        # The next name of an object has to be told from the next element of a list.
        encoded = encoded.replace(b"\1{", b",{")
        first_members = encoded.count(b"{") - encoded.count(b"{}")
        if encoded.count(b"\1") == members - first_members:
            encoded = encoded.replace(b"\1", b"],[")  # all are followed by a name
        else:
            encoded = _NEXT_NAME.sub(b"],[", encoded)
    if b"{" in text:
        encoded = encoded.replace(b"{", b'{"{":[[').replace(b"}", b"]]}")
        encoded = encoded.replace(b":[[]]}", b":[]}")
    if rb"\u0002" in encoded:
        encoded = encoded.replace(rb'"\u0002', b'{"#":"').replace(rb'\u0003"', b'"}')
    return encoded.replace(b"\1", b",").replace(b"\0", b",")


_INTEGERS = re.compile(
    rb"(?:%b,)*+%b" % (2 * (rb"[ \t\n\r]*+-?(?:0|[1-9][0-9]*+)[ \t\n\r]*+",))
)
_HEADS = re.compile(r'\n\["[^"\\]*+(?:\\.[^"\\]*+)*+"')


def whole_numbers(row: bytes) -> bytes | None:
    """Return a row of integers in their spelling; ``None`` if it is anything else.

    Without an object for each: a list of numbers is cheaper to parse than anything.
    """
    if not _INTEGERS.fullmatch(row):
        return None
    row = row.translate(None, b" \t\n\r").replace(b",", b'e0"},{"#":"')
    row = b'{"#":"%be0"}' % row
    if b'00000e0"' in row:
        return None
    for zeros in range(4, 0, -1):
        row = row.replace(b'%be0"' % (b"0" * zeros), b'e%d"' % zeros)
    return row.replace(b'"-e1"', b'"0"').replace(b'"e1"', b'"0"')


def string_spelled(text: str) -> bytes:
    return _encoded(_DECODER.decode(f'"{text}"'))


def head_of(name: str) -> str:
    return f"[{_ENCODER.encode(name)},"


def name_of(member: str) -> str:
    name: str = _HOOKED_DECODER.raw_decode(member, 1)[0]
    return name


def refuse_duplicates(members: list[str]) -> None:
    for start in range(0, len(members), 1_000):
        names = _HEADS.findall("\n".join(["", *members[start : start + 1_001]]))
        if any(map(eq, names, names[1:])):
            raise ValueError("duplicate members")
