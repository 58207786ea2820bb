"""Program: what it costs to compare a long JSON body, against parsing it.

    python -m tests.benchmarks.bodies --json

Bodies of one shape each, of about the given number of bytes. ``time``: the fingerprint's
CPU divided by that of ``json.loads``, both in turns in one process, medians. ``memory``:
the highest that it has allocated, divided by the length of the body.
"""

import itertools
import json
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

from tests.benchmarks.harness import microseconds_each, run

BUDGET = {"time": 4.0, "memory": 12.0}
"""Ratios; at most."""


def main() -> int:
    return run(__doc__, {"size": 2_500_000, "rounds": 7}, measured)


def measured(*, size: int, rounds: int) -> dict[str, Any]:
    ratios = {}
    for name, body in _bodies(size).items():
        sys.stderr.write(f"{name}\n")
        ratios[name] = _ratios(body, rounds)
    missed = {
        name: [kind for kind, limit in BUDGET.items() if each[kind] > limit]
        for name, each in ratios.items()
    }
    return {
        "ratios": ratios,
        "budget": BUDGET,
        "missed": {name: kinds for name, kinds in missed.items() if kinds},
    }


def _ratios(body: bytes, rounds: int) -> dict[str, float]:
    from django_idempotency.core.fingerprints import canonical_json, fingerprint_of

    def ours() -> None:
        fingerprint_of(canonical_json(body))

    def parsed() -> None:
        json.loads(body)

    times = microseconds_each(
        {"ours": ours, "parsed": parsed},
        count=1,
        rounds=rounds,
        clock=time.process_time,
    )
    return {
        "time": round(times["ours"] / times["parsed"], 1),
        "memory": round(_peak(ours) / len(body), 1),
    }


def _peak(act: Callable[[], None]) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _bodies(size: int) -> dict[str, bytes]:
    number = itertools.count()

    def many(make: Callable[[int], Any]) -> Iterator[str]:
        length = 0
        while length < size:
            text = json.dumps(make(next(number)))
            length += len(text) + 1
            yield text

    def items(make: Callable[[int], Any]) -> bytes:
        return f"[{','.join(many(make))}]".encode()

    def nested(n: int) -> Any:
        inner: Any = n
        for _ in range(30):
            inner = [{"a": inner}]
        return inner

    def members(name: Callable[[int], str]) -> bytes:
        inner = ",".join(f'"{name(n)}":{n}' for n in range(size // 15))
        return f"{{{inner}}}".encode()

    return {
        "orders": items(
            lambda n: {
                "id": n,
                "lines": [{"sku": f"A{n}", "quantity": 2, "price": 19.99}] * 3,
                "to": {"name": f"Customer {n}", "city": "Berlin", "zip": "10115"},
            }
        ),
        "rows": items(
            lambda n: {"id": n, "name": f"item {n}", "paid": True, "n": n % 7}
        ),
        "smallest objects": items(lambda n: {"a": 1}),
        "whole numbers": items(lambda n: n * 7919 % 1_000_003),
        "digits": items(lambda n: n % 10),
        "decimals": items(lambda n: n * 7919 % 1_000_003 / 1000),
        "points": items(lambda n: [n % 180 + 0.5, n % 90 + 0.25]),
        "empty lists": items(lambda n: []),
        "short strings": items(lambda n: f"string {n}"),
        "long strings": items(lambda n: "lorem ipsum " * 500),
        "one string": json.dumps("x" * size).encode(),
        "escapes": items(lambda n: '"\\\né' * 50),
        "other scripts": f'["{"Größe über 😀 " * (size // 20)}"]'.encode(),
        "deep": items(nested),
        "members in order": members("{:07}".format),
        "members in disorder": members(lambda n: f"{n * 7919 % 10_000_019:07}"),
        "one name": ('{"a":0' + ',"a":0' * (size // 6) + "}").encode(),
    }


if __name__ == "__main__":
    sys.exit(main())
