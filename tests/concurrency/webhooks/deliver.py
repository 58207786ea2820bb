"""Program: deliver one event of this type to this path, and write the status."""

from __future__ import annotations

import sys

import django


def main() -> None:
    django.setup()
    from tests.deliveries import deliver, stripe

    path, event_id, event_type = sys.argv[1:]
    answer = deliver(path, stripe(event_id, type=event_type))
    sys.stdout.write(f"{answer.status_code}\n")


if __name__ == "__main__":
    main()
