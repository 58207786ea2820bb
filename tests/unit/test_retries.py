"""When a client sends again: a table, and what a key is made of."""

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.contrib.retries import (
    Answer,
    Call,
    Retries,
    key_to_send,
    needs_key,
    operation_key,
)
from django_idempotency.core.keys import require_unguessable
from tests.support.cases import cases

SECRET = "a secret of this service"  # noqa: S105 - nobody\'s


def answer(
    status: int, code: str | None = None, retry: str | None = None, ended: bool = False
) -> Answer:
    return Answer(status=status, code=code, retry=retry, has_ended=ended)


AGAIN = {
    "in flight": answer(409, "in-flight"),
    "in flight, told": answer(409, "in-flight", "same-key"),
    "unfinished": answer(409, "unfinished", "same-key"),
    "of another status": answer(404, "operation-unknown", "same-key"),
    "store unavailable": answer(503, "store-unavailable", "same-key"),
    **{str(status): answer(status) for status in (408, 425, 429, 500, 502, 503, 504)},
}
LAST = {
    "conflict of the view's": answer(409),
    "unknown outcome": answer(409, "outcome-unknown"),
    "sign in": answer(401, "sign-in-required", "no"),
    "in flight, but told otherwise": answer(409, "in-flight", "no"),
    "another key": answer(422, "key-reused", "new-key"),
    "no more, with 503": answer(503, "…", "no"),
    "another key, with 429": answer(429, "…", "new-key"),
    **{
        str(status): answer(status)
        for status in (200, 201, 204, 303, 400, 401, 402, 403, 404, 410, 413, 422, 451)
    },
    **{
        f"{status} that ends it": answer(status, ended=True)
        for status in (201, 402, 408, 409, 425, 429, 500, 503)
    },
}


@cases("said", AGAIN)
def test_answer_is_worth_another_attempt(said: Answer) -> None:
    assert Call(retries=Retries()).pause_after(said) is not None


@cases("said", LAST)
def test_answer_is_the_last(said: Answer) -> None:
    assert Call(retries=Retries()).pause_after(said) is None


@given(failures=st.integers(1, 5000))
def test_pause_is_random_up_to_a_limit(failures: int) -> None:
    call = Call(retries=Retries(tries=10_000), failures=failures - 1)
    pauses = []
    for _ in range(30):
        call.failures = failures - 1
        pauses.append(call.pause_after_loss())

    most = min(8.0, 2.0 ** min(failures - 1, 10))
    assert all(pause is not None and 0 <= pause <= most for pause in pauses)
    assert len(set(pauses)) > 1


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@cases(
    "headers, seconds",
    {
        "none": ({}, 0),
        "seconds": ({"Retry-After": "7"}, 7),
        "a date": ({"Retry-After": NOW + timedelta(seconds=9), "Date": NOW}, 9),
        "a date that is over": ({"Retry-After": NOW - HOUR, "Date": NOW}, 0),
        "a date, by our own clock": (
            {"Retry-After": NOW - timedelta(days=9000)},
            0,
        ),
        "without a zone": (
            {
                "Retry-After": "Sun, 01 Mar 2026 12:00:09 -0000",
                "Date": "Sun, 01 Mar 2026 12:00:00 GMT",
            },
            9,
        ),
        "a word": ({"Retry-After": "soon"}, 0),
        "less than nothing": ({"Retry-After": "-5"}, 0),
        "a number without end": (
            {"Retry-After": "9" * 5000},
            timedelta.max.total_seconds(),
        ),
        "a date that isn't": ({"Retry-After": "Sun, 99 Mar 2026 12:00:09 GMT"}, 0),
    },
)
def test_server_says_how_long_to_wait(headers: dict[str, Any], seconds: float) -> None:
    sent = {
        name: value if isinstance(value, str) else format_datetime(value, usegmt=True)
        for name, value in headers.items()
    }

    said = Answer.of(503, sent, b"").retry_after
    assert said.total_seconds() == seconds


def test_pause_is_never_shorter_than_the_server_says() -> None:
    busy = Answer(status=503, retry_after=timedelta(seconds=20))

    assert Call(retries=Retries()).pause_after(busy) == 20


def test_long_lease_is_looked_at_again_and_not_slept_through() -> None:
    leased = Answer(status=409, code="in-flight", retry_after=timedelta(minutes=10))
    call = Call(retries=Retries())

    assert [call.pause_after(leased) for _ in range(20)] == [8] * 20
    assert call.failures == 0


def test_pause_that_goes_past_the_deadline_is_not_made() -> None:
    call = Call(retries=Retries(deadline=timedelta(seconds=10)))

    assert (
        call.pause_after(Answer(status=503, retry_after=timedelta(minutes=1))) is None
    )


@cases(
    "body, said",
    {
        "code and what to do": (b'{"code": "a", "retry": "no"}', ("a", "no")),
        "broken": (b"{", (None, None)),
        "null": (b"null", (None, None)),
        "a list": (b"[]", (None, None)),
        "no text": (b'{"code": 1, "retry": ["no"]}', (None, None)),
        "no unicode": (b"\xff", (None, None)),
        "without end": (b"[" * 200_000, (None, None)),
    },
)
def test_problem_says_what_to_do(body: bytes, said: tuple[str, str]) -> None:
    headers = {"Content-Type": "application/problem+json; charset=utf-8"}
    told = Answer.of(409, headers, body)

    assert (told.code, told.retry) == said
    assert Answer.of(409, {"Content-Type": "application/json"}, body).code is None


def test_key_of_an_operation_is_equal_in_every_process_and_not_to_be_guessed() -> None:
    key = operation_key("pay order 7", secret=SECRET)
    program = (
        "from django_idempotency.contrib.retries import operation_key as key;"
        f"print(key('pay order 7', secret={SECRET!r}))"
    )
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": ":".join(sys.path)},
    )

    assert done.stdout.strip() == key
    require_unguessable(key)  # raises if a guest may not send it
    others = {
        operation_key("pay order 8", secret=SECRET),
        operation_key("pay order 7", secret=SECRET + "2"),
        operation_key("pay order 7\udcff", secret=SECRET),
    }
    assert len(others | {key}) == 4


@pytest.mark.parametrize("client", ["httpx", "requests", "retries"])
def test_client_needs_no_settings(client: str) -> None:
    program = f"import django_idempotency.contrib.{client}, sys; print('django' in sys.modules)"
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": ":".join(sys.path)},
    )

    assert done.stdout == "False\n"


@cases(
    "misuse, sentence",
    {
        "operation without a name": (
            lambda: operation_key("", secret=SECRET),
            "Name the operation",
        ),
        "short secret": (
            lambda: operation_key("pay", secret="short"),  # noqa: S106 - refused
            "at least 16 characters",
        ),
        "empty key": (lambda: key_to_send("", "X-Key"), "The header X-Key is empty"),
        "no tries": (lambda: Retries(tries=0), "at least 1, and is 0"),
        "a number of seconds": (
            lambda: Retries(deadline=30),  # type: ignore[arg-type]
            "Write Retries(deadline=timedelta(seconds=30)).",
        ),
        "no time": (lambda: Retries(first_pause=timedelta(0)), "positive timedelta"),
    },
)
def test_misuse_is_refused_with_what_to_write(misuse: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        misuse()


def test_safe_methods_need_no_key() -> None:
    methods = [
        "GET",
        "head",
        "OPTIONS",
        "TRACE",
        "POST",
        "put",
        "PATCH",
        "DELETE",
        "MERGE",
    ]

    assert [method for method in methods if needs_key(method)] == methods[4:]


def test_caller_that_sets_no_time_waits_as_long_as_an_attempt_may_take() -> None:
    retries = Retries(deadline=timedelta(minutes=1), attempt_timeout=HOUR)

    assert Call(retries=Retries()).limit(None) == 30
    assert Call(retries=retries).limit(5) == 5
    assert 59 < Call(retries=retries).limit(None) <= 60
