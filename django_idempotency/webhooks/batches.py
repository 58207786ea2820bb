"""Cuts a batch into bodies with one event each, byte for byte.

An event keeps only its own part of the delivery: with the whole of it, a batch of 250
would be stored 250 times. And what a body with one event contains is that event, also
after a deploy that identifies events in another way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

_DECODER = json.JSONDecoder()

Span = tuple[int, int]
"""Where a value begins, and where it ends."""


def bodies_of(body: bytes, path: str) -> list[bytes]:
    """Return the body once for each element of its list at `path`, without the others.

    The body is JSON that was read before, and the list is there.
    """
    text = body.decode()
    begin, end = _after_space(text, 0), len(text)
    for name in path.split("."):
        # Of two members of one name the last one counts, as for the parser.
        begin, end = dict(_values(text, begin))[name]
    before, after = text[: begin + 1], text[end - 1 :]
    return [
        (before + text[first:last] + after).encode()
        for _, (first, last) in _values(text, begin)
    ]


def _values(text: str, at: int) -> Iterator[tuple[str, Span]]:
    """Yield where the values of an object are, by name, or those of a list."""
    is_object = text[at] == "{"
    name = ""
    at = _after_space(text, at + 1)
    while text[at] not in "]}":
        if is_object:
            name, colon = _DECODER.raw_decode(text, at)
            at = _after_space(text, _after_space(text, colon) + 1)
        _, end = _DECODER.raw_decode(text, at)
        yield name, (at, end)
        at = _after_space(text, end)
        if text[at] == ",":
            at = _after_space(text, at + 1)


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\n\r":
        at += 1
    return at
