"""Program: try inputs for one target, guided by the branches that they take.

Started by `tests.fuzz.running`, since a guided fuzzer ends its process. Where there is
no `atheris`, as on Python 3.11, the seeds are changed at random instead.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import ExitStack, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.fuzz.changing import LONGEST, changed
from tests.fuzz.target import Target

PROGRESS = 5
"""Seconds between two lines."""
SLOWEST = 60
"""Seconds for one input, after which it counts as a fault: nothing here takes one."""


class Trial:
    """Counts inputs, and ends the process after the last one or the first fault."""

    def __init__(self, target: Target, options: argparse.Namespace, kind: str) -> None:
        self._target = target
        self._options = options
        self._kind = kind
        self._outcomes: Counter[str] = Counter()
        self._count = 0
        self._began = self._told = time.monotonic()

    def __call__(self, data: bytes) -> None:
        try:
            self._outcomes[self._target.run(data)] += 1
        except BaseException as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            self._end(
                {
                    "input": data.hex(),
                    "fault": f"{type(error).__name__}: {error}",
                    "place": f"{Path(place.filename).name}:{place.lineno}",
                }
            )
        self._count += 1
        if self._count >= self._options.inputs:
            self._end(None)
        if self._count % 64 == 0 and time.monotonic() - self._told > PROGRESS:
            self._told = time.monotonic()
            self._tell()

    def _tell(self) -> None:
        seconds = time.monotonic() - self._began
        sys.stderr.write(
            f"{self._target.name}: {self._count:,} of {self._options.inputs:,} inputs, "
            f"{seconds:.0f} s, {dict(self._outcomes)}\n"
        )

    def _end(self, fault: dict[str, str] | None) -> None:
        result = {
            "target": self._target.name,
            "how": self._kind,
            "inputs": self._count,
            "seconds": round(time.monotonic() - self._began, 1),
            "outcomes": dict(sorted(self._outcomes.items())),
            "missing": sorted(self._target.outcomes - self._outcomes.keys()),
            "fault": fault,
        }
        Path(self._options.result).write_text(json.dumps(result))
        sys.stderr.flush()
        # Neither the fuzzer's own report nor handlers of its end: all is written.
        os._exit(0)


def main() -> None:
    options = _parsed(sys.argv[1:])
    is_guided = find_spec("atheris") is not None and not options.blind
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with _watched(is_guided):
            target = _target(options.target)
        if options.plant:
            stack.enter_context(target.plants[options.plant]())
        trial = Trial(target, options, "guided" if is_guided else "blind")
        if options.once:
            trial(bytes.fromhex(options.once))
        elif is_guided:
            _guided(trial, target, options, folder)
        else:
            _blind(trial, target, options.seed)


def _watched(is_guided: bool) -> Any:
    """Let branches of the package be counted, in the modules imported meanwhile."""
    if not is_guided:
        return nullcontext()
    import atheris

    return atheris.instrument_imports(include=["django_idempotency"])


def _target(name: str) -> Target:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.fuzz.settings"
    import logging

    import django

    django.setup()
    logging.disable(logging.CRITICAL)
    from django.test.utils import setup_test_environment

    setup_test_environment(debug=False)  # the host "testserver"
    from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    if target.has_tables:
        from django.core.management import call_command

        call_command("migrate", run_syncdb=True, verbosity=0)
    return target


def _guided(
    trial: Trial, target: Target, options: argparse.Namespace, folder: Path
) -> None:
    import atheris

    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number:03}").write_bytes(seed)
    dictionary = folder / "words"
    dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    atheris.Setup(
        [
            "fuzz",
            str(corpus),
            f"-dict={dictionary}",
            # One more than there are, so that it is the trial that ends the process.
            f"-runs={options.inputs + 100}",
            f"-seed={options.seed}",
            f"-max_len={LONGEST}",
            f"-timeout={SLOWEST}",
            f"-artifact_prefix={folder}/",
            "-verbosity=0",
            "-rss_limit_mb=4096",
        ],
        trial,
    )
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _blind(trial: Trial, target: Target, seed: int) -> None:
    for data in changed(target, seed):
        trial(data)


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--result", required=True)
    parser.add_argument("--inputs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plant", default="")
    parser.add_argument("--once", default="", help="one input, in hexadecimal")
    parser.add_argument("--blind", action="store_true")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
