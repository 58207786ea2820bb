"""What is tried, and how its inputs are made of bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

SEPARATOR = b"\n--\n"
"""Between the parts of an input; a fuzzer keeps it, since it stands in each seed."""

Plant = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One reader of what strangers send, with what must hold for any input."""

    name: str
    run: Callable[[bytes], str]
    """Returns what became of the input, in one word; raises if a rule was broken."""
    seeds: tuple[bytes, ...]
    """Good inputs, to begin from."""
    words: tuple[bytes, ...] = ()
    """What good inputs are made of."""
    outcomes: frozenset[str]
    """What must have been seen in a campaign, or else it has shown nothing."""
    plants: Mapping[str, Plant] = field(default_factory=dict)
    """Faults to be put into the code, each of which must be found."""
    has_tables: bool = False


class Broken(AssertionError):
    """A rule was broken."""


def require(holds: object, rule: str, *seen: object) -> None:
    if not holds:
        raise Broken(": ".join([rule, *(repr(each)[:400] for each in seen)]))


def parts_of(data: bytes, count: int) -> list[bytes]:
    """Take an input apart; what is missing is empty."""
    parts = data.split(SEPARATOR, count - 1)
    return parts + [b""] * (count - len(parts))


def together(*parts: bytes) -> bytes:
    return SEPARATOR.join(parts)


def as_header(part: bytes) -> str:
    """The value as a server hands it over."""
    return part.decode("latin-1")
