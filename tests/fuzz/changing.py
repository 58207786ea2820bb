"""Inputs for a target without a guide: its seeds, changed at random."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.fuzz.target import Target

LONGEST = 4096
"""Bytes of an input."""


def changed(target: Target, seed: int) -> Iterator[bytes]:
    """Yield the seeds, and then changes of them without end."""
    seeds = target.seeds
    yield from seeds
    choice = random.Random(seed)  # noqa: S311 - to be repeated
    while True:
        data = bytearray(choice.choice(seeds))
        for _ in range(choice.choice((1, 1, 1, 2, 2, 3, 5, 8))):
            _change(data, seeds, target.words, choice)
        yield bytes(data[:LONGEST])


def _change(
    data: bytearray,
    seeds: tuple[bytes, ...],
    words: tuple[bytes, ...],
    choice: random.Random,
) -> None:
    at = choice.randint(0, len(data))
    end = min(len(data), at + choice.choice((0, 1, 1, 2, 4, 8, 16)))
    match choice.randrange(6):
        case 0:
            data[at:end] = b""
        case 1:
            data[at:end] = choice.randbytes(choice.choice((1, 1, 1, 2, 4)))
        case 2:
            data[at:end] = choice.choice(words)
        case 3:  # what stands there, once more in another place
            there = choice.randint(0, len(data))
            data[there:there] = data[at:end]
        case 4 if end > at:
            data[at] ^= 1 << choice.randrange(8)
        case _:
            other = choice.choice(seeds)
            start = choice.randint(0, len(other))
            data[at:end] = other[start : start + choice.randint(0, 32)]
