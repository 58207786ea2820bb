"""JSON in one spelling, made at about the price of parsing it.

What a guest sends is compared before anything else is known of it, so a long body must
cost neither much memory nor much time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from functools import cache
from itertools import accumulate
from operator import eq
from typing import Any

MAX_DEPTH = 64
MAX_EXPONENT_DIGITS = 18

WINDOW = 16 * 1024
"""Bytes that are decoded at a time: as Python objects they are many times as large."""

LONG = 1024
"""Bytes of a string that is cheaper to look through than to match."""


def pieces_of(body: bytes, exclude: Collection[str] = ()) -> list[bytes]:
    """Return the document's one spelling, in pieces; `exclude` names top-level members.

    Raises:
        ValueError, RecursionError: it isn't JSON, or parsers disagree about it.
    """
    if _is_deep(body):
        raise ValueError("too deep")
    if len(body) > WINDOW:
        return _Long(body).document(exclude)
    document = _decoded(body)
    if exclude and isinstance(document, dict) and _OBJECT in document:
        members = [pair for pair in document[_OBJECT] if pair[0] not in exclude]
        document = {_OBJECT: members}
    return [_encoded(document)]


# Note [Canonical JSON without a serialiser of our own]
# The decoder's hooks replace every object with {"{": [[name, value], …]}, sorted, and
# every number with {"#": "digits e exponent"}. Nothing else can become a dict, so the
# replacement is unambiguous, and the standard library's C encoder writes the result.
_OBJECT = "{"
_NUMBER = "#"


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > 1:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("duplicate members")
        pairs.sort()  # by the names: no two are equal, so no value is looked at
    return {_OBJECT: pairs}


def _integer(literal: str) -> dict[str, str]:
    if literal[-1] != "0":
        return {_NUMBER: literal + "e0"}
    return _number(literal)


def _decimal(literal: str) -> dict[str, str]:
    whole, _, fraction = literal.partition(".")
    if fraction.isdigit() and fraction[-1] != "0" and whole.lstrip("-") != "0":
        return {_NUMBER: f"{whole}{fraction}e-{len(fraction)}"}
    return _number(literal)


def _number(literal: str) -> dict[str, str]:
    mantissa, _, exponent_text = literal.lower().partition("e")
    if len(exponent_text) > MAX_EXPONENT_DIGITS:
        raise ValueError("huge exponent")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return {_NUMBER: "0"}
    exponent = int(exponent_text or 0) - len(fraction)
    exponent += len(digits) - len(significant)
    return {_NUMBER: f"{sign}{significant}e{exponent}"}


def _refuse_constant(literal: str) -> Any:
    raise ValueError(f"{literal} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members,
    parse_int=_integer,
    parse_float=_decimal,
    parse_constant=_refuse_constant,
)
_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)


def _decoded(text: bytes) -> Any:
    return _DECODER.decode(text.decode("utf-8"))


def _encoded(document: Any) -> bytes:
    return _ENCODER.encode(document).encode("ascii")


# A string that is never closed matches up to the end. Without that alternative the
# search would start again at each of its escaped quotes, in quadratic time.
_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NO_MARKS = bytes(set(_NO_BRACKETS) - set(b'"'))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""Plus and minus one, as signed bytes."""


def _is_deep(body: bytes) -> bool:
    """Whether the nesting goes beyond MAX_DEPTH.

    Decided here and not by RecursionError, which depends on how deep the *caller* is:
    the fingerprint must be the same in every process.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return False
    marks = body
    if b"\\" in body:
        marks = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Strings without brackets are two quotes now. If all are, no quote is left over.
    marks = marks.translate(None, _NO_MARKS).replace(b'""', b"")
    if b'"' in marks:
        marks = _STRINGS.sub(b"", body)
    steps = memoryview(marks.translate(_STEPS, _NO_BRACKETS)).cast("b")
    return max(accumulate(steps), default=0) > MAX_DEPTH


# Note [Long documents in pieces]
# A long list or object is cut at commas of its own, found by an expression that matches
# whole elements and nothing across their ends. What stands between two cuts is decoded in
# brackets of its own; if it is a row of elements there, it is one here. An element that
# is too long for that is taken apart in the same way.
_BLANKS = re.compile(rb"[ \t\n\r]*+")
_NAME = re.compile(rb'("[^"\\]*+(?:\\.[^"\\]*+)*+")[ \t\n\r]*+:', re.DOTALL)
_SCALAR = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^\[\]{}", \t\n\r]++', re.DOTALL)
_PLAIN = bytes(set(range(0x20, 0x7F)) - set(b'"\\'))
"""What stands in a string as it is."""
_IN_ORDER = re.compile(r"[#-\[\]-~]*")
"""Names of these alone are in the order of their texts, closing quotes included."""
_INTEGERS = re.compile(
    rb"(?:%b,)*+%b" % (2 * (rb"[ \t\n\r]*+-?(?:0|[1-9][0-9]*+)[ \t\n\r]*+",))
)
_HEADS = re.compile(rb'^\["[^"\\]*+(?:\\.[^"\\]*+)*+"', re.MULTILINE)


@cache
def _elements(has_escapes: bool) -> re.Pattern[bytes]:
    """Match elements or members with their commas, and the last one without."""
    string = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"' if has_escapes else rb'"[^"]*+"'
    inside = rb'[^\[\]{}"]*+(?:%b[^\[\]{}"]*+)*+' % string
    for _ in range(MAX_DEPTH):
        inside = rb'[^\[\]{}"]*+(?:(?:%b|[\[{]%b[\]}])[^\[\]{}"]*+)*+' % (
            string,
            inside,
        )
    element = rb'[^\[\]{}",]*+(?:(?:%b|[\[{]%b[\]}])[^\[\]{}",]*+)*+' % (string, inside)
    return re.compile(rb"(?:%b,)*+(?:%b(?=[\]}]))?" % (element, element), re.DOTALL)


def _whole_numbers(row: bytes) -> bytes | None:
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


class _Long:
    """A long document, taken apart from its start to its end."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0
        # Small after an element that was too long for it, for the next one inside may
        # be so as well: the same bytes would be searched on each level.
        self._window = WINDOW

    def document(self, exclude: Collection[str]) -> list[bytes]:
        pieces: list[bytes] = []
        self._value(pieces, exclude)
        if self._next():
            raise ValueError("two documents")
        return pieces

    def _next(self) -> bytes:
        """Go to what follows the blanks, and return its first byte."""
        self._at = _BLANKS.match(self._body, self._at).end()  # type: ignore[union-attr]
        return self._body[self._at : self._at + 1]

    def _value(self, pieces: list[bytes], exclude: Collection[str] = ()) -> None:
        match self._next():
            case b"[":
                self._list(pieces)
            case b"{":
                self._object(pieces, exclude)
            case _:
                self._scalar(pieces)

    def _scalar(self, pieces: list[bytes]) -> None:
        if self._body[self._at : self._at + 1] == b'"' and self._plain(pieces):
            return
        found = _SCALAR.match(self._body, self._at)
        if found is None:
            raise ValueError("no value")
        pieces.append(_encoded(_decoded(found[0])))
        self._at = found.end()

    def _plain(self, pieces: list[bytes]) -> bool:
        """Take a string that has no escapes, if it is one."""
        start, end = self._at, self._body.find(b'"', self._at + 1)
        inside = self._body[start + 1 : end]
        if end < 0 or b"\\" in inside:
            return False
        self._at = end + 1
        if inside.translate(None, _PLAIN):
            pieces.append(_encoded(_decoded(self._body[start : end + 1])))
        else:
            pieces += (b'"', inside, b'"')
        return True

    def _list(self, pieces: list[bytes]) -> None:
        separator = b"["
        for row in self._rows(b"]"):
            pieces.append(separator)
            separator = b","
            if row is None:
                self._value(pieces)
            else:
                pieces.append(
                    _whole_numbers(row) or _encoded(_decoded(b"[%b]" % row))[1:-1]
                )
        pieces.append(b"]" if separator == b"," else b"[]")

    def _object(self, pieces: list[bytes], exclude: Collection[str]) -> None:
        members: list[bytes] = []
        values: dict[bytes, list[bytes]] = {}
        in_order = True
        for row in self._rows(b"}"):
            if row is None:
                name = self._name()
                members.append(_head_of(name))
                self._value(values.setdefault(members[-1], []))
                names = [name]
            else:
                pairs = _decoded(b"{%b}" % row)[_OBJECT]
                members += _each_encoded(pairs)
                names = [name for name, _ in pairs]
            in_order = in_order and _IN_ORDER.fullmatch("".join(names)) is not None
        members.sort(key=None if in_order else _name_of)
        _refuse_duplicates(members)
        excluded = tuple(map(_head_of, exclude))
        pieces.append(b'{"{":[')
        separator = b""
        for member in members:
            if not member.startswith(excluded):
                pieces += (separator, member)
                if member in values:
                    pieces += (*values.pop(member), b"]")
                separator = b","
        pieces.append(b"]}")

    def _rows(self, closer: bytes) -> Iterator[bytes | None]:
        """Yield what stands between two cuts; ``None`` for an element yet to be read."""
        self._at += 1
        if self._next() == closer:
            self._at += 1
            return
        while True:
            end = self._end_of_row()
            if end > self._at:
                row = self._body[self._at : end]
                self._at = end
                is_last = not row.endswith(b",")
                row = row if is_last else row[:-1]
                if not row.strip(b" \t\n\r"):
                    raise ValueError("nothing before a comma")
                yield row
            else:
                yield None
                is_last = self._next() != b","
                self._at += not is_last
            if is_last:
                if self._next() != closer:
                    raise ValueError("not closed")
                self._at += 1
                return

    def _end_of_row(self) -> int:
        is_string = self._next() == b'"'
        if is_string and self._body.find(b'"', self._at + 1, self._at + LONG) < 0:
            return self._at  # it is read faster on its own
        limit = self._at + self._window
        has_escapes = self._body.find(b"\\", self._at, limit) >= 0
        row = _elements(has_escapes).match(self._body, self._at, limit)
        end: int = row.end()  # type: ignore[union-attr]
        if end > self._at:
            self._window = min(2 * self._window, WINDOW)
        else:
            self._window = max(WINDOW // 16, 1)
        return end

    def _name(self) -> str:
        self._next()
        found = _NAME.match(self._body, self._at)
        if found is None:
            raise ValueError("no name")
        self._at = found.end()
        name: str = json.loads(found[1])
        return name


def _each_encoded(pairs: list[tuple[str, Any]]) -> list[bytes]:
    # Nothing else of the package's own is a bare number: it shows where to cut.
    between = [each for pair in pairs for each in (pair, {"": 0})]
    return _encoded(between[:-1])[1:-1].split(b',{"":0},')


def _head_of(name: str) -> bytes:
    return f"[{_ENCODER.encode(name)},".encode("ascii")


def _name_of(member: bytes) -> str:
    name: str = _DECODER.raw_decode(member.decode("ascii"), 1)[0]
    return name


def _refuse_duplicates(members: list[bytes]) -> None:
    for start in range(0, len(members), 1_000):
        names = _HEADS.findall(b"\n".join(members[start : start + 1_001]))
        if any(map(eq, names, names[1:])):
            raise ValueError("duplicate members")
