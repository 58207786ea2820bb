"""JSON in one spelling, made at about the price of parsing it.

What a guest sends is compared before anything else is known of it, so a long body must
cost neither much memory nor much time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
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
    if len(body) > WINDOW:
        return _Long(body).document(exclude)
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _depths(_structure(body)[1], 0)
    return [_spelled(body, exclude)]


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
_ODD_ESCAPES = (rb"\u000", rb"\u003", rb"\u007")
"""How escapes of our marks, of colons and of braces begin."""
_NEXT_NAME = re.compile(rb'\x01(?="[^"\\]*+(?:\\.[^"\\]*+)*+"\0)', re.DOTALL)
_CUT = float("nan")
"""Written between members, to find where one ends: nothing else is NaN."""


def _marked_integer(literal: str) -> str:
    return f"\2{literal}e0\3" if literal[-1] != "0" else f"\2{_rounded(literal)}\3"


def _integer(literal: str) -> dict[str, str]:
    return {_NUMBER: literal + "e0" if literal[-1] != "0" else _rounded(literal)}


def _rounded(literal: str) -> str:
    digits = literal.rstrip("0")
    return f"{digits}e{len(literal) - len(digits)}" if digits.strip("-") else "0"


def _decimal(literal: str) -> str:
    whole, _, fraction = literal.partition(".")
    if fraction.isdigit() and fraction[-1] != "0" and whole.lstrip("-") != "0":
        return f"{whole}{fraction}e-{len(fraction)}"
    return _number(literal)


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
    parse_float=lambda literal: f"\2{_decimal(literal)}\3",
    parse_constant=_refuse_constant,
)
_HOOKED_DECODER = json.JSONDecoder(
    object_pairs_hook=_members,
    parse_int=_integer,
    parse_float=lambda literal: {_NUMBER: _decimal(literal)},
    parse_constant=_refuse_constant,
)
_ENCODER = json.JSONEncoder(
    separators=("\1", "\0"), sort_keys=True, check_circular=False
)
_HOOKED_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)


def _spelled(text: bytes, exclude: Collection[str] = ()) -> bytes:
    document = _HOOKED_DECODER.decode(text.decode())
    if exclude and isinstance(document, dict) and _OBJECT in document:
        members = [pair for pair in document[_OBJECT] if pair[0] not in exclude]
        document = {_OBJECT: members}
    return _HOOKED_ENCODER.encode(document).encode("ascii")


def _row_spelled(row: bytes, is_odd: bool) -> bytes:
    """Return what stands in a list, in its spelling."""
    text = b"[%b]" % row
    if is_odd:
        return _spelled(text)[1:-1]
    return _finished(_encoded(_DECODER.decode(text.decode())), text)[1:-1]


def _members_spelled(row: bytes, is_odd: bool) -> tuple[list[str], list[str]]:
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


_BRACKETS = b"[{]}"
_NO_BRACKETS = bytes(set(range(256)) - set(_BRACKETS))
_NO_MARKS = bytes(set(_NO_BRACKETS) - set(b'"'))
_STEPS = bytes.maketrans(_BRACKETS, b"\x01\x01\xff\xff")
"""Plus and minus one, as signed bytes."""
_ONE_BRACKET = bytes.maketrans(_BRACKETS, b"[[[[")
_HIDDEN = bytes.maketrans(_BRACKETS + b",", b"_____")
_HERE = MAX_DEPTH + 1
"""What stands for the depth at which a text starts, so that none is negative."""


def _structure(text: bytes) -> tuple[bytes, bytes, bool]:
    """Return the text with strings that hide nothing, its brackets, and if it is odd.

    It starts outside of strings and may end in one.
    """
    structure, is_odd = text, False
    if b"\\" in text:
        structure = text.replace(rb"\\", b"__").replace(rb"\"", b"__")
        may_be_object = b"{" in text or b":" in text
        # A list of texts may be nothing but escapes: not one more search than it takes.
        escapes = _ODD_ESCAPES if may_be_object else _ODD_ESCAPES[:1]
        is_odd = any(each in structure for each in escapes)
    # Strings without brackets are two quotes, and the last may be open.
    brackets = structure.translate(None, _NO_MARKS).replace(b'""', b"")
    if b'"' in brackets[:-1]:
        parts = structure.split(b'"')
        strings = b'"'.join(parts[1::2])
        is_odd = is_odd or b"{" in strings or b"}" in strings
        parts[1::2] = strings.translate(_HIDDEN).split(b'"')
        brackets = structure = b'"'.join(parts)
    return structure, brackets.translate(None, _NO_BRACKETS), is_odd


def _depths(brackets: bytes, level: int) -> bytes:
    """Return the depths before and after each bracket, where `_HERE` is that `level`.

    Depth is decided here and not by RecursionError, which depends on how deep the
    *caller* is: the fingerprint must be the same in every process.
    """
    steps = memoryview(brackets.translate(_STEPS)).cast("b")
    depths = bytes(accumulate(steps, initial=_HERE))
    if depths.translate(None, bytes(range(_HERE + MAX_DEPTH - level + 1))):
        raise ValueError("too deep")
    return depths


# Note [Long documents in pieces]
# A long list or object is cut where its own elements end, as far as a window shows them.
# What stands between two cuts is decoded in brackets of its own; if it is a row of
# elements there, it is one here. An element that is too long for that is taken apart in
# the same way.
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
_HEADS = re.compile(r'\n\["[^"\\]*+(?:\\.[^"\\]*+)*+"')


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


def _end_of_elements(structure: bytes, depths: bytes) -> int:
    """Return where the last of them ends that is seen to end; 0 if none is."""
    closed = depths.find(_HERE - 1)
    if closed >= 0:  # by the bracket of the list or object itself
        return _place_of(structure, len(depths) - closed)
    last = depths.rfind(_HERE)
    end = _place_of(structure, len(depths) - last) + 1 if last else 0
    if last < len(depths) - 1:
        return end
    comma = structure.rfind(b",", end)
    for _ in range(2):  # it may be in the string of a value, and in that of its name
        if comma > end and structure.count(b'"', end, comma) % 2:
            comma = structure.rfind(b",", end, structure.rfind(b'"', end, comma))
    return max(comma, end)


def _place_of(structure: bytes, from_the_end: int) -> int:
    """Return where that bracket stands; the last one is the first from the end."""
    return len(structure.translate(_ONE_BRACKET).rsplit(b"[", from_the_end)[0])


class _Long:
    """A long document, taken apart from its start to its end."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0
        self._level = 0
        self._is_odd = False  # the row that was found last
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
        self._level += 1
        match self._next():
            case b"[":
                self._list(pieces)
            case b"{":
                self._object(pieces, exclude)
            case _:
                self._scalar(pieces)
        self._level -= 1

    def _scalar(self, pieces: list[bytes]) -> None:
        if self._body[self._at : self._at + 1] == b'"' and self._plain(pieces):
            return
        found = _SCALAR.match(self._body, self._at)
        if found is None:
            raise ValueError("no value")
        pieces.append(_spelled(found[0]))
        self._at = found.end()

    def _plain(self, pieces: list[bytes]) -> bool:
        """Take a string that has no escapes, if it is one."""
        start, end = self._at, self._body.find(b'"', self._at + 1)
        inside = self._body[start + 1 : end]
        if end < 0 or b"\\" in inside:
            return False
        self._at = end + 1
        if inside.isascii() and not inside.translate(None, _PLAIN):
            pieces += (b'"', inside, b'"')
        else:
            pieces.append(_encoded(_DECODER.decode(f'"{inside.decode()}"')))
        return True

    def _list(self, pieces: list[bytes]) -> None:
        separator = b"["
        for row in self._rows(b"]"):
            pieces.append(separator)
            separator = b","
            if row is None:
                self._value(pieces)
            else:
                pieces.append(_whole_numbers(row) or _row_spelled(row, self._is_odd))
        pieces.append(b"]" if separator == b"," else b"[]")

    def _object(self, pieces: list[bytes], exclude: Collection[str]) -> None:
        members: list[str] = []
        values: dict[str, list[bytes]] = {}
        in_order = True
        for row in self._rows(b"}"):
            if row is None:
                names = [self._name()]
                found = [_head_of(names[0])]
                self._value(values.setdefault(found[0], []))
            else:
                names, found = _members_spelled(row, self._is_odd)
            members += found
            in_order = in_order and _IN_ORDER.fullmatch("".join(names)) is not None
        members.sort(key=None if in_order else _name_of)
        _refuse_duplicates(members)
        if exclude:
            excluded = tuple(map(_head_of, exclude))
            members = [each for each in members if not each.startswith(excluded)]
        pieces.append(b'{"{":[')
        start = 0
        for head in filter(values.__contains__, members if values else ()):
            end = members.index(head, start) + 1
            pieces += (",".join(members[start:end]).encode("ascii"), *values.pop(head))
            pieces.append(b"]," if end < len(members) else b"]")
            start = end
        pieces += (",".join(members[start:]).encode("ascii"), b"]}")

    def _rows(self, closer: bytes) -> Iterator[bytes | None]:
        """Yield what stands between two cuts; ``None`` for an element yet to be read."""
        if self._level > MAX_DEPTH:
            raise ValueError("too deep")
        self._at += 1
        if self._next() == closer:
            self._at += 1
            return
        while True:
            end = self._end_of_row()
            if end > self._at:
                row = self._body[self._at : end]
                self._at = end
                if not row.strip(b" \t\n\r"):
                    raise ValueError("nothing before a comma")
                yield row
            else:
                yield None
            follows = self._next()
            self._at += 1
            if follows == closer:
                return
            if follows != b",":
                raise ValueError("not closed")

    def _end_of_row(self) -> int:
        """Return where the elements end that the window shows; here, if none does."""
        is_string = self._next() == b'"'
        if is_string and self._body.find(b'"', self._at + 1, self._at + LONG) < 0:
            return self._at  # it is read faster on its own
        window = self._body[self._at : self._at + self._window]
        structure, brackets, self._is_odd = _structure(window)
        end = _end_of_elements(structure, _depths(brackets, self._level))
        self._window = min(2 * self._window, WINDOW) if end else max(WINDOW // 16, 1)
        return self._at + end

    def _name(self) -> str:
        self._next()
        found = _NAME.match(self._body, self._at)
        if found is None:
            raise ValueError("no name")
        self._at = found.end()
        name: str = json.loads(found[1])
        return name


def _head_of(name: str) -> str:
    return f"[{_ENCODER.encode(name)},"


def _name_of(member: str) -> str:
    name: str = _HOOKED_DECODER.raw_decode(member, 1)[0]
    return name


def _refuse_duplicates(members: list[str]) -> None:
    for start in range(0, len(members), 1_000):
        names = _HEADS.findall("\n".join(["", *members[start : start + 1_001]]))
        if any(map(eq, names, names[1:])):
            raise ValueError("duplicate members")
