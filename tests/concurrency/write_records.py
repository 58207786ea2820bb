"""Program: insert two records past the engine's checks and say what became of each."""

import sys
from dataclasses import replace

import django


def main() -> None:
    django.setup()
    from django.db import IntegrityError

    from tests.factories import IdempotencyRecordFactory
    from tests.support.values import OPERATION, SCOPE

    for principal in ("auth.User:1", "anonymous"):
        operation = replace(OPERATION, scope=replace(SCOPE, principal=principal))
        try:
            IdempotencyRecordFactory.create(id=operation.record_id)
            sys.stdout.write("inserted\n")
        except IntegrityError:
            sys.stdout.write("refused\n")


if __name__ == "__main__":
    main()
