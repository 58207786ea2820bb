"""Keys in headers and forms."""

from __future__ import annotations

import re
from unittest.mock import patch

from django_idempotency.core import keys
from django_idempotency.exceptions import InvalidKey
from tests.fuzz.target import Target, require


def plain_key(raw: str) -> str | None:
    """Read a key one character after the other; ``None``: it is refused.

    As RFC 9651, 3.3.3, and the documentation say.
    """
    text = raw.strip(" \t")
    if text.startswith('"'):
        key, rest = "", list(text[1:])
        while rest and rest[0] != '"':
            character = rest.pop(0)
            if character == "\\":
                character = rest.pop(0) if rest else "neither"
                if character not in '"\\':
                    return None
            key += character
        if rest != ['"']:
            return None
    elif set(text) & set(',"\\'):
        return None
    else:
        key = text
    is_good = 1 <= len(key) <= 255 and all("!" <= each <= "~" for each in key)
    return key if is_good else None


GUESTS = re.compile(
    # Their version is that of random ones.
    r"[0-9a-f]{8}-[0-9a-f]{4}-[47][0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|[0-7][0-9a-hjkmnp-tv-z]{25}",
    re.IGNORECASE,
)
ANY_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def is_for_guests(key: str) -> bool:
    if ANY_UUID.fullmatch(key):
        return GUESTS.fullmatch(key) is not None
    is_token = len(key) >= 21 and set(key) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
    )
    return is_token or GUESTS.fullmatch(key) is not None


def run(data: bytes) -> str:
    raw = data.decode("latin-1")
    try:
        key = keys.parse_key(raw)
    except InvalidKey:
        is_short = len(raw) <= 4 * keys.MAX_LENGTH
        require(not is_short or plain_key(raw) is None, "a good key is refused", raw)
        return "refused"
    require(plain_key(raw) == key, "another key is read", raw, key, plain_key(raw))
    require(re.fullmatch(keys.PATTERN, raw.strip(" \t")), "not the pattern", raw)
    spelt = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
    require(keys.parse_key(spelt) == key, "no round trip", key)
    try:
        keys.require_unguessable(key)
    except InvalidKey:
        require(not is_for_guests(key), "a guest's good key is refused", key)
        return "accepted"
    require(is_for_guests(key), "a guest may send what can be guessed", key)
    if keys.is_page_key(key):
        owners = ["", "a", key, "anonymous"]
        require(
            not any(keys.is_owned_by(key, owner) for owner in owners),
            "somebody has made a page's key",
            key,
        )
    return "accepted, also from guests"


KEYS = Target(
    name="keys",
    run=run,
    seeds=(
        b"abc",
        b'"a,b\\"c\\\\"',
        b' "abc"\t',
        b"6f1e1f5e-9c1b-4b7e-8c2b-4c5f6a7b8c9d",
        b"6f1e1f5e-9c1b-1b7e-8c2b-4c5f6a7b8c9d",
        b"01ARZ3NDEKTSV4RRFFQ69G5FAV",
        b"page-AAAAAAAAAAAAAAAAAAAAAA-BBBBBBBBBBBBBBBBBBBBBB",
        b'"' + b'\\"' * 255 + b'"',
        b"x" * 256,
    ),
    words=(b'"', b"\\", b'\\"', b"\\\\", b",", b"page-", b"-", b" ", b"\t", b"\xa0"),
    outcomes=frozenset({"refused", "accepted", "accepted, also from guests"}),
    plants={
        "trailing text": lambda: patch.object(
            keys, "_QUOTED", _Leniently(keys._QUOTED)
        ),
        "any escape": lambda: patch.object(
            keys, "_QUOTED", re.compile(r'"((?:[^"\\]|\\.)*)"')
        ),
        "time-ordered UUID": lambda: patch.object(
            keys, "_RANDOM_UUID_VERSIONS", ("1", "4", "7")
        ),
    },
)


class _Leniently:
    """Matches at the start alone."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern

    def fullmatch(self, text: str) -> re.Match[str] | None:
        return self._pattern.match(text)
