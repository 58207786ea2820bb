"""Hypothesis strategies for JSON documents and for the ways to spell one of them."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

# Few and confusable, so that two documents are often nearly equal, and so that names of
# the canonical form's own making appear as the client's.
_names = st.sampled_from(["a", "b", "é", "{", "#", "1e0", "", "\ud800", "\0", '"\\/'])
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
