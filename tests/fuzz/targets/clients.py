"""What the clients for protected APIs read of answers."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from requests.structures import CaseInsensitiveDict

from django_idempotency.contrib import retries
from django_idempotency.contrib.retries import Answer, Call, Retries, possible_duplicate
from tests.fuzz.target import Target, as_header, parts_of, require, together

STATUSES = (200, 201, 408, 409, 422, 425, 429, 500, 502, 503)
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"


def run(data: bytes) -> str:
    first, after, date, kind, body = parts_of(data, 5)
    status, ended = [*first, 0, 0][:2]
    headers = CaseInsensitiveDict(
        {
            "Retry-After": as_header(after),
            "Date": as_header(date),
            "Content-Type": as_header(kind),
            "Idempotency-Ended": "true" if ended % 2 else "",
        }
    )
    answer = Answer.of(STATUSES[status % len(STATUSES)], headers, body)
    _require_wait(answer.retry_after, as_header(after), as_header(date))
    call = Call(retries=Retries())
    for _ in range(7):
        pause = call.pause_after(answer)
        limit = Retries().deadline.total_seconds()
        require(
            pause is None or (math.isfinite(pause) and 0 <= pause < limit),
            "no such pause",
            pause,
        )
        if ended % 2 or (200 <= answer.status < 300 and answer.retry is None):
            require(pause is None, "what has ended is sent again", answer)
    require(call.pause_after(answer) is None or answer.is_in_flight, "no end", answer)
    return "again" if answer.is_worth_another else _duplicate(answer, headers, body)


def _require_wait(wait: timedelta, after: str, date: str) -> None:
    require(wait >= timedelta(0), "a wait in the past", wait)
    digits = after.strip(" \t")
    if re.fullmatch("[0-9]{1,9}", digits):
        require(wait == timedelta(seconds=int(digits)), "another wait", after, wait)
    for seconds in (1, 90):
        later = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC) + timedelta(
            seconds=seconds
        )
        if (after, date) == (format_datetime(later, usegmt=True), DATE):
            require(wait == timedelta(seconds=seconds), "another date", after, wait)


def _duplicate(answer: Answer, headers: Any, body: bytes) -> str:
    request = SimpleNamespace(headers={"Idempotency-Key": "k"})
    response: Any = SimpleNamespace(
        status_code=answer.status, headers=headers, content=body, request=request
    )
    found = possible_duplicate(response)
    if found is None:
        return "done"
    require(json.loads(body)["code"] == "possible-duplicate", "no duplicate", body)
    confirmed = found.confirmation["Idempotency-Confirm"]
    require(re.fullmatch("[!-~]{1,255}", confirmed), "not for a header", confirmed)
    require(found.age >= timedelta(0), "a time", found.age)
    return "duplicate"


def _unbounded(headers: Any) -> timedelta:
    value = (headers.get("Retry-After") or "").strip()
    return timedelta(seconds=int(value)) if value.isdigit() else timedelta(0)


RETRIES = Target(
    name="clients",
    run=run,
    seeds=(
        together(
            b"\x09\x00",
            b"5",
            DATE.encode(),
            b"application/problem+json",
            b'{"code":"x","retry":"same-key"}',
        ),
        together(
            b"\x03\x00",
            b"Tue, 14 Nov 2023 22:14:50 GMT",
            DATE.encode(),
            b"Application/Problem+JSON",
            b'{"code":"in-flight"}',
        ),
        together(b"\x03\x01", b"1", b"", b"", b""),
        together(
            b"\x03\x00",
            b"0" * 30,
            b"",
            b"application/problem+json",
            b'{"code":"possible-duplicate","first":{"reference":"a","age_seconds":5}}',
        ),
        together(b"\x00\x00", b"9" * 5000, b"x", b"text/html", b"[[["),
        together(
            b"\x09\x00",
            b"Mon, 01 Jan 0001 00:00:00 +2359",
            b"Fri, 31 Dec 9999 23:59:59 -2359",
            b"",
            b"",
        ),
    ),
    words=(
        *(
            b"GMT",
            b"-0000",
            b"+9999",
            b" Nov ",
            b"Tue, ",
            b":",
            b"application/problem+json",
        ),
        *(b'"code":', b'"retry":', b'"same-key"', b'"new-key"', b'"no"', b'"first":{'),
        *(b'"reference":', b'"age_seconds":', b"possible-duplicate", b"1e400", b"\xb2"),
        *(b"\n--\n", b"\\r\\n", b"null", b"true"),
    ),
    outcomes=frozenset({"again", "done", "duplicate"}),
    plants={
        "any number": lambda: patch.object(retries, "_retry_after", _unbounded),
        "any ending": lambda: patch.object(
            retries, "re", SimpleNamespace(fullmatch=re.match)
        ),
    },
)
