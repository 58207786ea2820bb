"""The counts of hours beside a campaign: written often, hindered, and compared.

Each server process says what it counts before it does, in the log that outlives it. A
trigger notes which transactions write what, so that it is seen, without asking the
package, if one of them writes counts and anything of a request.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.faults.databases import EVENTS, ORDERS, RECORDS, Database

HOURS = "django_idempotency_hourlycount"
AWAY = "hours_that_are_away"
INTERVAL_SECONDS = 0.3
"""Between two writes of one process."""
PAUSE_SECONDS = 1.0
"""Between two hindrances, on average."""
HINDERED_SECONDS = 0.7

TRIGGERS = f"""
    CREATE TABLE faults_written (xact xid8, what text);
    CREATE FUNCTION faults_note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO faults_written VALUES (pg_current_xact_id(), TG_ARGV[0]);
        RETURN NULL;
    END $$;
    CREATE TRIGGER noted AFTER INSERT OR UPDATE ON {HOURS}
        FOR EACH STATEMENT EXECUTE FUNCTION faults_note('counts');
""" + "".join(  # noqa: S608 - our own tables
    f"CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON {table}"
    " FOR EACH STATEMENT EXECUTE FUNCTION faults_note('request');"
    for table in (RECORDS, EVENTS, ORDERS)
)


def install() -> None:
    """In a server process: write often, and say first what is counted."""
    from django_idempotency.engine import counting
    from tests.faults.points import tell

    counting.INTERVAL_SECONDS = INTERVAL_SECONDS
    counter: Any = counting.counter
    add = counter.add

    def add_and_tell(endpoint: str, outcome: str, *more: Any) -> None:
        tell({"counted": outcome})
        add(endpoint, outcome, *more)

    counter.add = add_and_tell


@contextmanager
def hindered(database: Database) -> Iterator[Counter[str]]:
    """Lock the table, take it away and end who writes to it, again and again.

    Yields how often each of these was done.
    """
    database.query(TRIGGERS)
    done: Counter[str] = Counter()
    is_over = threading.Event()
    acts: dict[str, Callable[[psycopg.Connection[Any], threading.Event], None]] = {
        "locked": _lock,
        "away": _take_away,
        "ended": _end,
    }

    def hinder() -> None:
        while not is_over.wait(random.expovariate(1 / PAUSE_SECONDS)):
            name = random.choice(sorted(acts))  # noqa: S311 - no secret
            try:
                with psycopg.connect(database.url, autocommit=True) as session:
                    acts[name](session, is_over)
            except psycopg.Error:
                continue  # the database is ended, or the session was struck
            done[name] += 1

    thread = threading.Thread(target=hinder, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        is_over.set()
        thread.join()


def _lock(session: psycopg.Connection[Any], is_over: threading.Event) -> None:
    with session.transaction():
        session.execute(f"LOCK TABLE {HOURS} IN ACCESS EXCLUSIVE MODE")
        is_over.wait(HINDERED_SECONDS)


def _take_away(session: psycopg.Connection[Any], is_over: threading.Event) -> None:
    # If the database ends in between, it comes back the next time.
    session.execute(f"ALTER TABLE IF EXISTS {HOURS} RENAME TO {AWAY}")
    is_over.wait(HINDERED_SECONDS)
    bring_back(session.execute)


def _end(session: psycopg.Connection[Any], is_over: threading.Event) -> None:
    """End whoever is writing counts at a moment; if nobody is, wait for one."""
    writing = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND query LIKE %s"
    )
    while not is_over.wait(0.002):
        if session.execute(writing, [f"%{HOURS}%"]).fetchall():
            return


def bring_back(execute: Callable[[str], Any]) -> None:
    execute(f"ALTER TABLE IF EXISTS {AWAY} RENAME TO {HOURS}")


def written(database: Database) -> dict[str, int]:
    """How often each outcome was counted, as the table says."""
    bring_back(database.query)
    rows = database.query(f"SELECT outcome, sum(count) FROM {HOURS} GROUP BY outcome")  # noqa: S608
    return {outcome: int(count) for outcome, count in rows}


def in_requests(database: Database) -> int:
    """How many transactions have written counts, and anything of a request."""
    ((number,),) = database.query(
        "SELECT count(DISTINCT xact) FROM faults_written AS one"
        " JOIN faults_written AS other USING (xact)"
        " WHERE one.what = 'counts' AND other.what = 'request'"
    )
    return int(number)
