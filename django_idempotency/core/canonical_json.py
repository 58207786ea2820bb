"""JSON in one spelling, made at about the price of parsing it.

What a guest sends is compared before anything else is known of it, so a long body must
cost neither much memory nor much time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from itertools import accumulate

from .json_spelling import (
    ODD_ESCAPES,
    head_of,
    members_spelled,
    name_of,
    refuse_duplicates,
    row_spelled,
    spelled,
    string_spelled,
    whole_numbers,
)

MAX_DEPTH = 64

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
    return [spelled(body, exclude)]


_BRACKETS = b"[{]}"
_EACH_BRACKET = (b"[", b"]", b"{", b"}")
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
        escapes = ODD_ESCAPES if may_be_object else ODD_ESCAPES[:1]
        is_odd = any(each in structure for each in escapes)
    if not any(bracket in text for bracket in _EACH_BRACKET):
        return structure, b"", is_odd
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
        pieces.append(spelled(found[0]))
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
            pieces.append(string_spelled(inside.decode()))
        return True

    def _list(self, pieces: list[bytes]) -> None:
        separator = b"["
        for row in self._rows(b"]"):
            pieces.append(separator)
            separator = b","
            if row is None:
                self._value(pieces)
            else:
                pieces.append(whole_numbers(row) or row_spelled(row, self._is_odd))
        pieces.append(b"]" if separator == b"," else b"[]")

    def _object(self, pieces: list[bytes], exclude: Collection[str]) -> None:
        members: list[str] = []
        values: dict[str, list[bytes]] = {}
        in_order = True
        for row in self._rows(b"}"):
            if row is None:
                names = [self._name()]
                found = [head_of(names[0])]
                self._value(values.setdefault(found[0], []))
            else:
                names, found = members_spelled(row, self._is_odd)
            members += found
            in_order = in_order and _IN_ORDER.fullmatch("".join(names)) is not None
        members.sort(key=None if in_order else name_of)
        refuse_duplicates(members)
        if exclude:
            excluded = tuple(map(head_of, exclude))
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
