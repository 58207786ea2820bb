"""What is read from rows: answers, journals, notes, and what is encoded at rest."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from cryptography.fernet import Fernet
from django.test import RequestFactory, override_settings

from django_idempotency.contrib.fernet import FernetCodec
from django_idempotency.core import at_rest
from django_idempotency.core.attempts import attempts_of, without_texts
from django_idempotency.core.decisions import (
    Held,
    InFlight,
    Mismatch,
    RecordState,
    Renew,
    Replay,
    RowView,
    Unreadable,
    decide,
)
from django_idempotency.core.history import bare, with_note
from django_idempotency.exceptions import Undecodable
from django_idempotency.http.answers import replay_of
from django_idempotency.store import records
from django_idempotency.stories import masking
from tests.fuzz.target import Target, parts_of, require, together
from tests.support.values import OPERATION

ROW = uuid.UUID(int=7)
PLACE = at_rest.of_answer(ROW)
OTHER_PLACE = at_rest.of_answer(uuid.UUID(int=8))
PLAIN: dict[str, Any] = {"IDEMPOTENCY_BODY_CODEC": None}
CODED: dict[str, Any] = {
    "IDEMPOTENCY_BODY_CODEC": "django_idempotency.contrib.fernet.FernetCodec",
    "IDEMPOTENCY_BODY_KEYS": [Fernet.generate_key().decode() for _ in range(2)],
}
_WAYS = (PLAIN, CODED)


def run_at_rest(data: bytes) -> str:
    """What is written is read, and what nobody has written is not."""
    number, value, other = parts_of(data, 3)
    way = _WAYS[number[0] % 2 if number else 0]
    with override_settings(**way):
        stored = at_rest.stored(value, PLACE)
    # It may have been switched on meanwhile, but not off.
    for later in _WAYS if way is PLAIN else [CODED]:
        with override_settings(**later):
            require(at_rest.read(stored, PLACE) == value, "not what was written", value)
    text = value.decode("latin-1")
    with override_settings(**CODED):
        word = json.dumps(text)
        kept = at_rest.stored_text(word, PLACE)
        require(at_rest.read_text(kept, PLACE) == word, "another word", word)
        require(at_rest.read_text(word, PLACE) == word, "a plain word", word)
        outcome = _read_foreign(other)
        if way is CODED:
            _require_bound(stored, other)
    return outcome


def _read_foreign(stored: bytes) -> str:
    """As somebody has put it into the row who has no key."""
    try:
        read = at_rest.read(stored, PLACE)
        at_rest.read_text(stored.decode("latin-1"), PLACE)
    except Undecodable:
        return "undecodable"
    if not stored.startswith(at_rest.MARK):
        require(read == stored, "plain bytes are changed", stored)
        return "plain"
    marked = stored.startswith(at_rest.AS_IT_IS)
    require(marked, "decoded what nobody has encoded", stored)
    return "marked"


def _require_bound(stored: bytes, change: bytes) -> None:
    changed = bytearray(stored)
    if change:
        at = change[0] % len(changed)
        changed[at] ^= change[-1] or 1
    for read, place in ((bytes(changed), PLACE), (stored, OTHER_PLACE)):
        if (read, place) == (stored, PLACE) or not read.startswith(at_rest.ENCODED):
            continue
        try:
            at_rest.read(read, place)
        except Undecodable:
            continue
        require(False, "decoded what was changed, or another row's", change)


def _unbound(self: FernetCodec, data: bytes, context: str) -> bytes:
    import base64

    return self._fernet.decrypt(base64.urlsafe_b64encode(data))[32:]


AT_REST = Target(
    name="at-rest",
    run=run_at_rest,
    seeds=(
        together(b"\0", b"body", b"body"),
        together(b"\0", at_rest.ENCODED + b"x", at_rest.ENCODED + b"x"),
        together(b"\0", at_rest.AS_IT_IS, at_rest.AS_IT_IS + b"x"),
        together(b"\1", at_rest.MARK, at_rest.MARK + b"\2"),
        together(b"\1", b"", b"\x20\x01"),
        together(b"\1", b"~" * 30, b"~AAAA"),
        together(b"\1", b"\xff", b"~\xe9"),
    ),
    words=(at_rest.MARK, b"\0idempotency\0", b"\0idempotency\1", b"~", b"=", b"\n--\n"),
    outcomes=frozenset({"undecodable", "plain", "marked"}),
    plants={
        "no mark": lambda: patch.object(at_rest, "AS_IT_IS", b""),
        "unbound": lambda: patch.object(FernetCodec, "decode", _unbound),
    },
)

STATES = [*RecordState]
LEASES = (None, timedelta(0), timedelta(seconds=5))


def run_rows(data: bytes) -> str:
    """A row that was damaged, or written by hand, is never a second execution."""
    first, headers, body, effects, earlier = parts_of(data, 5)
    state, status, lease, expired = [*first, 0, 0, 0, 0][:4]
    text = headers.decode("utf-8", "replace")
    answer = records._answer(
        status * 3 if status < 250 else None, text, body if body else None
    )
    if answer is not None:
        response = replay_of(answer, RequestFactory().post("/"))
        response.serialize()
        require(response.headers["Idempotency-Replayed"] == "true", "no mark", text)
        require("Set-Cookie" not in response.headers, "a cookie", text)
    row = RowView(
        scope=str(OPERATION.scope),
        key=OPERATION.key,
        fingerprint=OPERATION.fingerprint.sign(),
        state=STATES[state % len(STATES)],
        expired=bool(expired % 2),
        is_remembered=True,
        answer=answer,
        lease_left=LEASES[lease % len(LEASES)],
        location=None,
    )
    verdict = decide(OPERATION, row, row.scope)
    if row.state == RecordState.KEPT and not isinstance(verdict, Renew):
        expected = (Replay if answer else Unreadable, InFlight, Held, Mismatch)
        is_over = row.expired
        require(is_over or isinstance(verdict, expected), "a verdict", verdict)
    require(
        not isinstance(verdict, Renew) or row.state != RecordState.KEPT,
        "what is kept would run again",
        row,
    )
    notes = _json(effects)
    for read in (attempts_of, without_texts, bare):
        read(notes)
    with_note(notes, {"what": "x"})
    _json(earlier)
    return "no answer" if answer is None else "answer"


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


@contextmanager
def _runs_again() -> Iterator[None]:
    from django_idempotency.core import decisions

    with patch.object(decisions, "Unreadable", lambda *_: Renew()):
        yield


@contextmanager
def _any_header() -> Iterator[None]:
    with patch.object(records, "_can_be_sent", lambda *_: True):
        yield


ROWS = Target(
    name="rows",
    run=run_rows,
    seeds=(
        together(bytes([1, 67, 0, 0]), b'[["X-Order","1"]]', b"body", b"[]", b""),
        together(
            bytes([1, 67, 0, 1]), b"[]", b"", b'[{"what":"begun","way":"inbox"}]', b""
        ),
        together(
            bytes([0, 255, 2, 0]), b"{}", b"", b'[{"what":"processed","at":"x"}]', b""
        ),
        together(
            bytes([2, 100, 1, 0]),
            b'[[":exception","true"],["Location","/"]]',
            b"",
            b"",
            b"",
        ),
        together(
            bytes([1, 101, 0, 0]), b'[["Location","javascript:x"]]', b"", b"[5]", b"[]"
        ),
        together(
            bytes([3, 60, 0, 0]),
            b'[["Set-Cookie","a"],[":csp_nonce","x"]]',
            b"",
            b"",
            b"",
        ),
        together(bytes([1, 67, 0, 0]), b'[["X","\\ud800"]]', b"", b"", b""),
        together(
            bytes([1, 100, 0, 0]), b'[["X","a\\r\\nb"],["\\u00e9","b"]]', b"", b"", b""
        ),
    ),
    words=(
        *(
            b"[[",
            b"]]",
            b'","',
            b'"',
            b"\\r",
            b"\\n",
            b"\\u0000",
            b"\\ud800",
            b"Location",
        ),
        *(
            b"Set-Cookie",
            b":_csp_config",
            b":_charset",
            b":_reason_phrase",
            b":csp_nonce",
        ),
        *(b"Content-Type", b"null", b"true", b"{}", b"[", b"what", b"error", b"\n--\n"),
    ),
    outcomes=frozenset({"answer", "no answer"}),
    plants={"runs again": _runs_again, "any header": _any_header},
)


def run_shown(data: bytes) -> str:
    """Whatever somebody sent can be shown to people, without its secrets."""
    secret, body = parts_of(data, 2)
    mark = "MARK" + secret.hex()[:16]
    shown = masking.pretty(body)
    masking.preformatted(shown).encode()
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return "text"
    holding = json.dumps({"password": mark, "deep": [{"card_number": mark}]})
    require(mark not in masking.pretty(holding.encode()), "a secret is shown", mark)
    pairs = [["X-Token", mark], document, "x"]
    lines = masking.masked_headers(pairs)
    require(mark not in lines, "a header's secret is shown", mark)
    return "document"


SHOWN = Target(
    name="shown",
    run=run_shown,
    seeds=(
        together(b"a", b'{"a":[1,{"password":"x"}],"b":"\\u00e9"}'),
        together(b"b", b"<html>\xe9"),
        together(b"c", b'["\\ud83d\\ude00",null,1e400]'),
        together(b"d", b"[" * 300 + b"]" * 300),
    ),
    words=(
        b'"',
        b"\\ud800",
        b"\\u0000",
        b"<",
        b"{",
        b"[",
        b'":',
        b"password",
        b"\n--\n",
    ),
    outcomes=frozenset({"text", "document"}),
    plants={"no masks": lambda: patch.object(masking, "masked", lambda value: value)},
)
