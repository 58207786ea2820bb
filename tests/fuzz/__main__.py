"""Program: give readers of what strangers send a million inputs.

    python -m tests.fuzz --inputs 200000 --seed 1 --json
    python -m tests.fuzz --target json --plant "trailing comma"

The inputs follow the branches that they take, by `atheris` where there is a wheel of it.
The exit code is 1 if a rule was broken, or if an outcome has never been seen.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from tests.fuzz.running import PARTS, campaign


def main() -> int:
    options = _parsed(sys.argv[1:])
    more = [*(["--plant", options.plant] if options.plant else [])]
    more += ["--once", options.once] if options.once else []
    more += ["--blind"] if options.blind else []
    result = campaign(
        options.target or PARTS, inputs=options.inputs, seed=options.seed, more=more
    )
    sys.stdout.write(json.dumps(result) + "\n" if options.json else _text(result))
    is_good = not result["faults"] and (
        bool(options.once) or not any(each["missing"] for each in result["targets"])
    )
    return 0 if is_good else 1


def _text(result: dict[str, Any]) -> str:
    lines = []
    for each in result["targets"]:
        outcomes = ", ".join(f"{n:,} {what}" for what, n in each["outcomes"].items())
        lines.append(
            f"{each['target']:<12}{each['inputs']:>10,} {each['seconds']:>7} s  {outcomes}"
        )
        lines += [f"  never seen: {what}" for what in each["missing"]]
        if fault := each["fault"]:
            lines += [f"  {fault['fault']}", f"  --once {fault['input']}"]
    lines.append(
        f"{result['inputs']:,} inputs, seed {result['seed']}, {result['seconds']} s, "
        f"{len(result['faults'])} faults"
    )
    return "\n".join(lines) + "\n"


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--inputs",
        type=int,
        default=200_000,
        metavar="N",
        help="for each quick target; the others get a part of it",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--target", action="append", choices=tuple(PARTS))
    parser.add_argument("--plant", default="", help="a fault to put in, as a control")
    parser.add_argument("--once", default="", help="one input, in hexadecimal")
    parser.add_argument("--blind", action="store_true", help="don't follow branches")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
