"""Payloads: no two that mean something else may have one fingerprint."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from io import BytesIO
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl

from django.core.exceptions import BadRequest, SuspiciousOperation
from django.core.handlers.wsgi import WSGIRequest
from django.http import QueryDict
from django.http.multipartparser import MultiPartParserError

from django_idempotency.core import canonical_json as long_documents
from django_idempotency.core import fingerprints, json_spelling
from django_idempotency.core.fingerprints import (
    canonical_form,
    canonical_json,
    canonical_pairs,
    canonical_query,
)
from django_idempotency.http import bodies
from django_idempotency.http.requests import _fingerprint
from django_idempotency.policies import IdempotencyPolicy
from tests.fuzz.target import Target, parts_of, require, together

DEEPEST = 64
MOST_DIGITS = 1000


class NoOpinion(Exception):
    """The plain reader would take too long."""


def meaning_of_json(body: bytes) -> Any:
    """Read it with the standard library, to something that can be compared.

    Raises:
        ValueError: it isn't JSON, or parsers disagree about it.
        NoOpinion, RecursionError
    """
    return json.loads(
        body.decode(),
        object_pairs_hook=_members,
        parse_int=_number,
        parse_float=_number,
        parse_constant=_refuse,
    )


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("duplicate members")
    return dict(pairs)


def _number(literal: str) -> Fraction:
    exponent = re.search(r"[eE]([-+]?[0-9]+)$", literal)
    if len(literal) > MOST_DIGITS or (exponent and abs(int(exponent[1])) > MOST_DIGITS):
        raise NoOpinion
    return Fraction(literal)


def _refuse(literal: str) -> Any:
    raise ValueError(literal)


def _tagged(meaning: Any) -> Any:
    """Tell true from 1, which are equal in Python."""
    match meaning:
        case dict():
            return {name: _tagged(value) for name, value in meaning.items()}
        case list():
            return [_tagged(each) for each in meaning]
        case bool() | None | str():
            return (type(meaning).__name__, meaning)
        case _:
            return ("number", meaning)


def spelt_anew(meaning: Any, blank: str) -> str:
    """Write the same document in another way."""
    match meaning:
        case dict():
            members = [
                f"{blank}{json.dumps(name)}{blank}:{spelt_anew(value, blank)}"
                for name, value in reversed(meaning.items())
            ]
            return "{" + ",".join(members) + "}"
        case list():
            return (
                "["
                + ",".join(spelt_anew(each, blank) for each in meaning)
                + blank
                + "]"
            )
        case Fraction():
            places = 0
            while meaning.denominator != 1:
                meaning, places = meaning * 10, places + 1
            return f"{meaning.numerator}.0E-{places}"
        case _:
            return json.dumps(meaning)


def depth_of(meaning: Any) -> int:
    if isinstance(meaning, dict):
        meaning = list(meaning.values())
    if isinstance(meaning, list):
        return 1 + max(map(depth_of, meaning), default=0)
    return 0


def read(body: bytes) -> Any:
    """Return the tagged meaning; ``None``: it has none but its bytes."""
    try:
        return _tagged(meaning_of_json(body))
    except ValueError:
        return None


def run_json(data: bytes) -> str:
    kind, one, other = parts_of(data, 3)
    window = (64 * 1024, 16, 33, 100)[kind[0] % 4 if kind else 0]
    with patch.object(long_documents, "WINDOW", window):
        return _compare(one, other)


def _compare(one: bytes, other: bytes) -> str:
    ours, others = (b"".join(canonical_json(each)) for each in (one, other))
    try:
        meanings = [read(each) for each in (one, other)]
    except (NoOpinion, RecursionError):
        return "no opinion"
    for body, spelling, meaning in zip(
        (one, other), (ours, others), meanings, strict=True
    ):
        if meaning is None:
            require(spelling == b"raw:" + body, "read what is no JSON", body, spelling)
        elif depth_of(meaning_of_json(body)) <= DEEPEST:
            require(spelling.startswith(b"json:"), "JSON is not read", body)
    is_same = one == other if None in meanings else meanings[0] == meanings[1]
    require(is_same == (ours == others), "compared wrongly", one, other)
    if meanings[0] is None or not ours.startswith(b"json:"):
        return "bytes"
    document = meaning_of_json(one)
    again = b"".join(canonical_json(spelt_anew(document, " \n").encode()))
    require(again == ours, "the same spelt anew differs", one)
    if isinstance(document, dict) and document:
        name = min(document)
        rest = {each: value for each, value in document.items() if each != name}
        require(
            b"".join(canonical_json(one, {name}))
            == b"".join(canonical_json(spelt_anew(rest, "").encode())),
            "excluded wrongly",
            one,
            name,
        )
    return "equal" if is_same else "different"


@contextmanager
def _trailing_comma() -> Iterator[None]:
    spelled = json_spelling.spelled

    def leniently(text: bytes, exclude: Any = ()) -> bytes:
        return spelled(re.sub(rb",(\s*[]}])", rb"\1", text), exclude)

    with patch.object(long_documents, "spelled", leniently):
        yield


def _rounded(literal: str) -> dict[str, str]:
    return {"#": repr(float(literal))}


@contextmanager
def _floats() -> Iterator[None]:
    decoder = json.JSONDecoder(
        object_pairs_hook=json_spelling._members,
        parse_int=json_spelling._integer,
        parse_float=_rounded,
        parse_constant=_refuse,
    )
    with patch.object(json_spelling, "_HOOKED_DECODER", decoder):
        yield


JSON = Target(
    name="json",
    run=run_json,
    seeds=(
        together(b"0", b'{"a":1,"b":[1,2]}', b'{ "b": [1.0,2e0], "a": 10e-1 }'),
        together(b"1", b'{"a":{"x":1.50,"y":[]},"b":"\\u00e9"}', b'{"a":null}'),
        together(b"2", b'[1,-0,0.10,1e400,true,false,null,"a"]', b"[1,0]"),
        together(b"3", b'[{"a":"b"},{"c":[{"d":{}}]},12345,"[{]}"]', b"[]"),
        together(b"1", b'{"{":[["a",1]],"#":"1e0"}', b'{"a":1}'),
        together(b"2", b'"\\ud800\\u0000\\u0002"', b'"\\ud800"'),
        together(b"3", b'{"a":1,"a":2}', b'{"a":2}'),
        together(b"0", b"[1,2]", b"[1,2]"),
    ),
    words=(
        *(b'{"', b'":', b'"', b"[", b"]", b"{", b"}", b",", b":", b"\\u00", b"\\u0002"),
        *(
            b"\\u0001",
            b"\\u0003",
            b"\\ud83d",
            b"\\ude00",
            b'\\"',
            b"\\\\",
            b"1e",
            b"E-",
        ),
        *(
            b"0.",
            b"-0",
            b"true",
            b"false",
            b"null",
            b"NaN",
            b"Infinity",
            b"\xef\xbb\xbf",
        ),
        *(b'{"#":"', b'{"{":[[', b'"a"', b" ", b"\n", b"\t", b"\n--\n", b"10", b"00"),
    ),
    outcomes=frozenset({"equal", "different", "bytes"}),
    plants={"trailing comma": _trailing_comma, "floats": _floats},
)

FORM = "application/x-www-form-urlencoded"
NOT_COMPARED = ("csrfmiddlewaretoken", "idempotency_key")


def meaning_of_form(body: bytes) -> dict[str, list[str]]:
    fields = dict(QueryDict(body, encoding="utf-8").lists())
    return {name: fields[name] for name in fields if name not in NOT_COMPARED}


def run_form(data: bytes) -> str:
    one, other = parts_of(data, 2)
    limit = 20
    ours, others = (
        b"".join(canonical_form(each, NOT_COMPARED, limit)) for each in (one, other)
    )
    queries = [b"".join(canonical_query(each)) for each in (one, other)]
    meanings = [
        dict(QueryDict(each, encoding="utf-8").lists()) for each in (one, other)
    ]
    if ours == others:
        require(
            meaning_of_form(one) == meaning_of_form(other), "forms differ", one, other
        )
    if queries[0] == queries[1]:
        require(meanings[0] == meanings[1], "queries differ", one, other)
    reversed_names = b"&".join(
        sorted(one.split(b"&"), key=_name_of_field, reverse=True)
    )
    require(
        b"".join(canonical_form(reversed_names, NOT_COMPARED)) == ours
        or len(one.split(b"&")) > limit
        or ours.startswith(b"raw:"),
        "names in another order differ",
        one,
    )
    if one == other:
        return "same"
    return "equal" if ours == others else "different"


def _name_of_field(field: Any) -> str:
    return next(iter(QueryDict(field + b"&x", encoding="utf-8")))


@contextmanager
def _without_blanks() -> Iterator[None]:
    def parsed(*args: Any, **more: Any) -> list[tuple[str, str]]:
        return [pair for pair in parse_qsl(*args, **more) if pair[1]]

    with patch.object(fingerprints, "parse_qsl", parsed):
        yield


@contextmanager
def _all_sorted() -> Iterator[None]:
    with patch.object(
        fingerprints,
        "canonical_pairs",
        lambda pairs, exclude=(): canonical_pairs(sorted(pairs), exclude),
    ):
        yield


FORMS = Target(
    name="forms",
    run=run_form,
    seeds=(
        together(b"a=1&b=2&a=3", b"b=2&a=1&a=3"),
        together(b"a=1&csrfmiddlewaretoken=x", b"a=1&csrfmiddlewaretoken=y"),
        together(b"a=%C3%A9&b=+", b"a=\xc3\xa9&b=%20"),
        together(b"a=%ff&b=", b"a=\xff&b"),
        together(b"a=1&a=2&a=3", b"a=3&a=2&a=1"),
        together(b"a&b&&=1&=", b"a=&b=&=1&="),
        together(b"&".join([b"a=1"] * 21), b"a=1"),
    ),
    words=(
        b"&",
        b"=",
        b"%",
        b"+",
        b"%26",
        b"%3D",
        b"a=",
        b"%C3%A9",
        b"\xe9",
        b";",
        b"\n--\n",
    ),
    outcomes=frozenset({"same", "equal", "different"}),
    plants={"blank values": _without_blanks, "order of values": _all_sorted},
)

TYPES = (
    "multipart/form-data; boundary=b",
    "multipart/form-data; boundary=b; charset=latin-1",
    "multipart/form-data; boundary=b; charset=utf-8",
    "application/json",
    "application/json; charset=latin-1",
    "application/json; charset=UTF8",
    "application/merge-patch+json",
    "text/plain",
    FORM,
    f"{FORM}; charset=latin-1",
    "multipart/form-data",
    "multipart/form-data; boundary=" + "b" * 71,
)
POLICY = IdempotencyPolicy()


def request_with(body: bytes, content_type: str, query: str) -> WSGIRequest:
    return WSGIRequest(
        {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/",
            "QUERY_STRING": query,
            "CONTENT_TYPE": content_type,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": BytesIO(body),
        }
    )


REFUSED_BY_DJANGO = (BadRequest, MultiPartParserError, SuspiciousOperation)


def meaning_of_request(request: WSGIRequest, body: bytes) -> Any:
    """What a view can make of it."""
    query = dict(request.GET.lists())
    content: Any
    if request.content_type in (FORM, bodies.MULTIPART):
        try:
            fields = dict(request.POST.lists())
            files = {
                name: [
                    (file.name, file.content_type, file.size, file.charset, file.read())
                    for file in values
                ]
                for name, values in request.FILES.lists()
            }
        except (*REFUSED_BY_DJANGO, LookupError, ValueError):
            return query, "refused", body
        for name in NOT_COMPARED:
            fields.pop(name, None)
            files.pop(name, None)
        content = (fields, files)
    elif "json" in (request.content_type or ""):
        try:
            # As REST framework reads it; without a charset of its own it is UTF-8.
            text = body.decode(request.encoding or "utf-8")
            meaning = read(text.encode())
        except (LookupError, ValueError):
            meaning = None
        content = body if meaning is None else meaning
    else:
        content = body
    return query, content


def run_request(data: bytes) -> str:
    """Two requests, as they come from the wire."""
    kinds, query, other_query, one, other = parts_of(data, 5)
    numbers = [*kinds, 0, 0][:2]
    sent = [
        (body, TYPES[number % len(TYPES)], asked.decode("latin-1"))
        for body, number, asked in zip(
            (one, other), numbers, (query, other_query), strict=True
        )
    ]
    digests, meanings, types = [], [], []
    for body, content_type, asked in sent:
        request = request_with(body, content_type, asked)
        fingerprint = _fingerprint(request, POLICY, request)
        digests.append(fingerprint.digest)
        types.append(request.content_type)
        try:
            # The view finds everything that it would find without us.
            left = meaning_of_request(request, body)
            alone = meaning_of_request(request_with(*sent[len(digests) - 1]), body)
            require(left == alone, "the view finds another payload", body, content_type)
        except (NoOpinion, RecursionError):
            return "no opinion"
        meanings.append(left)
    if digests[0] == digests[1]:
        require(
            (types[0], meanings[0]) == (types[1], meanings[1]),
            "two requests have one fingerprint",
            *sent,
        )
    if sent[0] == sent[1]:
        require(digests[0] == digests[1], "a repeat differs", sent[0])
        return "same"
    return "equal" if digests[0] == digests[1] else "different"


def _part(head: bytes, content: bytes) -> bytes:
    return (
        b"--b\r\nContent-Disposition: form-data; "
        + head
        + b"\r\n\r\n"
        + content
        + b"\r\n"
    )


FIELD = _part(b'name="a"', b"1")
OTHER_FIELD = _part(b'name="b"', b"2")
FILE = _part(b'name="f"; filename="x.txt"\r\nContent-Type: text/plain', b"content")
RENAMED = FILE.replace(b"x.txt", b"y.txt")
LATIN = FILE.replace(b"text/plain", b"text/plain; charset=latin-1")
BASE64 = _part(b'name="a"\r\nContent-Transfer-Encoding: base64', b"MQ==")
END = b"--b--\r\n"


def _undescribed(file: Any) -> list[Any]:
    return [file.content_type, file.size, file.digest]


REQUESTS = Target(
    name="requests",
    run=run_request,
    seeds=(
        together(
            b"\x00\x02", b"", b"", FIELD + OTHER_FIELD + END, OTHER_FIELD + FIELD + END
        ),
        together(
            b"\x00\x00", b"q=1", b"q=1", FIELD + FILE + END, FIELD + RENAMED + END
        ),
        together(b"\x00\x00", b"", b"", BASE64 + END, FIELD + END),
        together(b"\x00\x00", b"", b"", LATIN + END, FILE + END),
        together(
            b"\x00\x01", b"", b"", FIELD.replace(b"1", b"\xe9") + END, FIELD + END
        ),
        together(
            b"\x03\x05", b"a=1&b=2", b"b=2&a=1", b'{"a":"\xc3\xa9"}', b'{"a":"\\u00e9"}'
        ),
        together(b"\x03\x04", b"", b"", b'{"a":"\xc3\xa9"}', b'{"a":"\xc3\xa9"}'),
        together(b"\x08\x08", b"a=%C3%A9", b"a=\xe9", b"a=1&b=2", b"b=2&a=1"),
        together(b"\x07\x07", b"", b"", b"text", b"text"),
        together(b"\x06\x09", b"", b"", b"{}", b"a=1"),
    ),
    words=(
        *(
            b"--b\r\n",
            b"--b--\r\n",
            b"\r\n\r\n",
            b"\r\n",
            b'name="',
            b'filename="',
            b";",
        ),
        *(
            b"Content-Disposition: form-data; ",
            b"Content-Type: text/plain",
            b"; charset=",
        ),
        *(
            b"Content-Transfer-Encoding: base64",
            b"filename*=UTF-8''",
            b"csrfmiddlewaretoken",
        ),
        *(
            b"idempotency_key",
            b"&",
            b"=",
            b"%",
            b'{"',
            b'":',
            b"[",
            b"\\u00e9",
            b"\xc3\xa9",
        ),
        b"\n--\n",
    ),
    outcomes=frozenset({"same", "equal", "different"}),
    plants={
        "file names": lambda: patch.object(bodies, "_described", _undescribed),
        "query": lambda: patch(
            "django_idempotency.http.requests.canonical_query", partial(_nothing)
        ),
    },
)


def _nothing(query: bytes) -> list[bytes]:
    return fingerprints.NO_PAIRS
