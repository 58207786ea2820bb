"""Program: report operations, as requests do, from two threads, and how it ends is said.

``count_hours NUMBER`` reports that many and ends. With ``killed`` behind it, they are
written first, then a few more come, and the process is killed. With ``forked``, it is a
child that reports, while its parent has some of its own; with ``multiprocessing`` and a
way to start it, that is a child of this module.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from typing import Any

import django

LOST = 7
"""What is reported just before the kill."""


def main() -> None:
    os.environ["TESTS_COUNT"] = "yes"
    django.setup()
    from django_idempotency.engine import counting

    number, how = int(sys.argv[1]), sys.argv[2:]
    if how == ["killed"]:
        counting.INTERVAL_SECONDS = 0.2
        report(number)
        time.sleep(2)
        counting.INTERVAL_SECONDS = 60.0
        time.sleep(1)
        report(LOST)
        os.kill(os.getpid(), signal.SIGKILL)
    report(number)
    if how[:1] == ["multiprocessing"]:
        context: Any = multiprocessing.get_context(how[1])
        process = context.Process(target=report_in_child, args=[number])
        process.start()
        process.join()
    if how == ["forked"]:
        if child := os.fork():
            os.waitpid(child, 0)
        else:
            report(number)


def report_in_child(number: int) -> None:
    os.environ["TESTS_COUNT"] = "yes"
    django.setup()
    report(number)


def report(number: int) -> None:
    from django_idempotency.engine.reporting import report
    from tests.support.values import OPERATION

    def some() -> None:
        for _ in range(number):
            report("claimed", OPERATION)

    threads = [threading.Thread(target=some) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
