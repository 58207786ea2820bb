"""What the benchmarks have in common as programs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from tests.standalone import DURABLE, set_up

__all__ = ["run"]


def run(
    description: str | None,
    numbers: Mapping[str, int],
    measured: Callable[..., dict[str, Any]],
    *,
    settings: str = "tests.benchmarks.settings",
    server_settings: Mapping[str, str] = DURABLE,
) -> int:
    """Parse the command line, measure, and print what `measured` returns.

    Each of the `numbers` is an option with that default and an argument of `measured`.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    for name, default in numbers.items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=default, metavar="N")
    parser.add_argument("--json", action="store_true")
    options = vars(parser.parse_args())
    as_json = options.pop("json")
    with ExitStack() as stack:
        set_up(stack, settings, server_settings=server_settings)
        result = measured(**options)
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        _print(result)
    return 0


def _print(figures: Mapping[str, Any], indent: int = 0) -> None:
    for name, figure in figures.items():
        label = " " * indent + name.replace("_", " ")
        if isinstance(figure, Mapping):
            sys.stdout.write(f"{label}\n")
            _print(figure, indent + 2)
        else:
            sys.stdout.write(f"{label:<36}{figure}\n")
