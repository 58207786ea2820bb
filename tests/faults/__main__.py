"""Program: break everything at random, and check that no promise was.

    python -m tests.faults --runs 200 --seed 1 --json
    python -m tests.faults --database mariadb

A run is one operation with one or two faults, and with clients that send it again. The exit code
is 1 if a promise was broken, or if a kind of fault has struck too rarely. With ``--sabotage`` the servers go without one guard, and a
violation is what is expected.
"""

import argparse
import json
import sys
from typing import Any

from tests.faults import campaign
from tests.faults.conditions import SABOTAGES
from tests.faults.databases import DATABASES, POSTGRESQL, left_out
from tests.faults.plans import KINDS
from tests.faults.stage import set_up
from tests.support.servers.processes import signals_as_exceptions


def main() -> int:
    options = _parsed(sys.argv[1:])
    without = left_out(options.database)
    with (
        signals_as_exceptions(),
        set_up(
            options.sabotage, database=options.database, count=options.count
        ) as stage,
    ):
        result = campaign.run(
            stage,
            runs=options.runs,
            first=options.first,
            kinds=options.only or [kind for kind in KINDS if kind not in without],
            seed=options.seed,
            until_violation=options.until_violation,
        )
    result |= {"database": options.database, "left_out": without}
    sys.stdout.write(json.dumps(result) + "\n" if options.json else _text(result))
    return 1 if result["violations"] or result["too_rare"] else 0


def _text(result: dict[str, Any]) -> str:
    where, seed = result["database"], result["seed"]
    lines = [f"{result['runs']} runs on {where}, seed {seed}"]
    lines += [f"{count:6} {kind}" for kind, count in result["faults"].items()]
    lines += [json.dumps(violation, indent=2) for violation in result["violations"]]
    lines += [f"left out: {name} ({why})" for name, why in result["left_out"].items()]
    lines += [f"too few of {kind}" for kind in result["too_rare"]]
    if counted := result.get("counts"):
        lines.append(f"counts: {json.dumps(counted)}")
    lines.append(f"{len(result['violations'])} violations")
    return "\n".join(lines) + "\n"


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--runs", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument(
        "--first", type=int, default=1, metavar="N", help="the run to begin with"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=tuple(KINDS),
        help="faults of this kind, and of others that are named in the same way",
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument(
        "--sabotage", choices=SABOTAGES, default="", help="go without this guard"
    )
    parser.add_argument(
        "--until-violation", action="store_true", help="stop after the first batch"
    )
    parser.add_argument(
        "--count",
        action="store_true",
        help="let counts by the hour be written, and hinder that all the time",
    )
    parser.add_argument("--database", choices=DATABASES, default=POSTGRESQL)
    options = parser.parse_args(arguments)
    options.count |= options.sabotage == "beside"
    without = left_out(options.database)
    asked = (*(options.only or ()), f"sabotage {options.sabotage}")
    for name in (*asked, *(["--count"] if options.count else [])):
        if name in without:
            parser.error(f"Not on {options.database}: {name} ({without[name]}).")
    return options


if __name__ == "__main__":
    sys.exit(main())
