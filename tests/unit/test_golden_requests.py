"""Requests whose record ids and fingerprints may never change within a version.

As a program it prints what this process makes of them: run in processes with other
hash seeds and locales, it must print the same.
"""

import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import django
import pytest
from django.test import RequestFactory

from tests.support.cases import cases

BOUNDARY = "multipart/form-data; boundary=x"


def _multipart(*parts: str) -> bytes:
    return b"".join(
        f"--x\r\nContent-Disposition: form-data; {part}\r\n".encode() for part in parts
    ) + (b"--x--\r\n")


Request = tuple[str, str, str, bytes, str | None]
"""Method, path, content type, body, user."""


def _order(
    body: bytes, user: str | None = "1", *, content_type: str = "application/json"
) -> Request:
    return ("POST", "/orders/", content_type, body, user)


def _payment(
    body: bytes, *, content_type: str = BOUNDARY, method: str = "POST"
) -> Request:
    return (method, "/pay/", content_type, body, "1")


_FORM = b"b=2&a=%C3%A9&b=1&csrfmiddlewaretoken=q&idempotency_key=k"
_FILE = 'name="f"; filename="Ü.txt"\r\nContent-Type: text/plain\r\n\r\nbytes\0'
REQUESTS: dict[str, Request] = {
    "json": _order(b'{"b": [1, 2], "a": "x"}'),
    "json-numbers": _order(b"[0, -0.0, 1.50, 12e3, 1e-7, 9007199254740993, 1e400]"),
    "json-text": _order(
        '{"name": "Ünïcödé İı 😀\\u0000\\ud800", "Ä": null, "z": true}'.encode(),
        content_type="application/vnd.api+json; charset=utf-8",
    ),
    "json-odd": _order(b'{"a": 1, "a": 2}'),
    "json-cut-off": _order(b'{"a": \xff'),
    "empty": ("DELETE", "/orders/7/", "", b"", "1"),
    "query": ("POST", "/orders/?b=2&a=1&b=1&c=%C3%A9", "", b"", "1"),
    "text": ("PUT", "/notes/1", "text/plain; format=flowed", b"caf\xe9\x00", "1"),
    "form": _payment(_FORM, content_type="application/x-www-form-urlencoded"),
    "multipart": _payment(_multipart('name="b"\r\n\r\n2', 'name="a"\r\n\r\né')),
    "multipart-file": _payment(_multipart('name="a"\r\n\r\n1', _FILE)),
    "patch-multipart": _payment(_multipart('name="a"\r\n\r\n1'), method="PATCH"),
    "other-user": _order(b"{}", "a@example.com"),
    "guest": _order(b"{}", None),
    "odd-path": ("POST", "/%C3%A9/%00/%FF/a%2Fb/", "application/json", b"{}", "1"),
}
KEY = "f81d4fae-7dec-4d0a-a765-00a0c91e6bf6"


class Customer(SimpleNamespace):
    is_authenticated = True
    _meta = SimpleNamespace(
        concrete_model=SimpleNamespace(_meta=SimpleNamespace(label="shop.Customer"))
    )


def seen(name: str) -> list[str]:
    """Return the record's id, fingerprint and a derived key of one request."""
    # Here, because the package's modules can't be imported before Django is set up.
    from django_idempotency.core.keys import derive_key
    from django_idempotency.http.requests import operation_of
    from django_idempotency.policies import IdempotencyPolicy

    method, path, content_type, body, pk = REQUESTS[name]
    request: Any = RequestFactory().generic(method, path, body, content_type)
    if pk is not None:
        request.user = Customer(pk=pk)
    operation = operation_of(request, KEY, IdempotencyPolicy(), view_request=request)
    return [
        str(operation.record_id),
        operation.fingerprint.sign(),
        derive_key(operation.record_id, "charge"),
    ]


# Name, record id, fingerprint, key for "charge". Never edit a line: a record that is in
# somebody's database, or a key that a payment provider has seen, would be lost. Another
# algorithm takes another version tag.
LINES = """
json adb552e3-7450-8b16-8120-2f05a07f08d7 1:006230db1a141542b932738d6386615fff350ce59188ce57857c72601f45d6e7 b5149054-fe8d-87fd-a6bd-608fdd579532
json-numbers adb552e3-7450-8b16-8120-2f05a07f08d7 1:c2253dff6c5c5a4917915fea7d7d096b3302c9791c5050359f4f6d172deb144d b5149054-fe8d-87fd-a6bd-608fdd579532
json-text adb552e3-7450-8b16-8120-2f05a07f08d7 1:919fd44933a4f0eb144fb52d493352472c0e366a582eace55e85feaed3b6c8a1 b5149054-fe8d-87fd-a6bd-608fdd579532
json-odd adb552e3-7450-8b16-8120-2f05a07f08d7 1:4e55af32b6fda65fc0a41024daa5e816d85d84bd5cdb41f6449b0ac1841ab8ae b5149054-fe8d-87fd-a6bd-608fdd579532
json-cut-off adb552e3-7450-8b16-8120-2f05a07f08d7 1:95f441ab8ab25b347f75e4802f82cb560c9f92a6fe65fd2462bb7d47dc54139d b5149054-fe8d-87fd-a6bd-608fdd579532
empty 5634b017-2697-85a7-9218-bded1cd611d9 1:faf43cf4e92a49dd45569376c1491b04adeb17a616c1d2aa7c88a4a4c81263d4 b5a8fb8e-1820-8bdf-a052-189ccb36e445
query adb552e3-7450-8b16-8120-2f05a07f08d7 1:15d25bdb6f8ad0deac3bbf8a306720c505bf94909259dd15d649b46534fdbc06 b5149054-fe8d-87fd-a6bd-608fdd579532
text d5630721-8962-8578-8605-9f06974c337a 1:e5cb8f1bd8fc2e9e45fcdc9458e84ce1c5ce10952e1c447e1e6ec90380b5dc09 af87f37e-6716-83db-ab71-e1776e3ebb85
form f552243d-f502-85ea-883d-79e15b2d19ba 1:23723179a52c8e78d16ffb59252bb348f624a66fb4165c1228e64ccf88a3602d cef8aefb-f55f-8a56-be28-af119d5a0a25
multipart f552243d-f502-85ea-883d-79e15b2d19ba 1:4b178cce7b38b5ff34d9c9cb5504b3ff9c0ed9da5990888dcc3d6e39f9c09d65 cef8aefb-f55f-8a56-be28-af119d5a0a25
multipart-file f552243d-f502-85ea-883d-79e15b2d19ba 1:dfd14c8ff0c1b801eaa6ac7616fd5bcb339ebcbc3ff660021683eb8003735d30 cef8aefb-f55f-8a56-be28-af119d5a0a25
patch-multipart b4cc4b0f-6f85-89cd-818b-45f80294d23e 1:d3eb8cbcbee77d35178472ae13ee1320277a0843227dc802fa43868ff37c1a77 cd163066-374a-8b31-adcf-f7b1855473ae
other-user 0e8d6564-aba9-8e7e-b103-422681ec950f 1:4d5163a7ba0d0288b0cb8e31eb139548829c6e4fd4c266660e9ebb4dfbfac58e 1088eecf-051d-8e56-b35b-2e1507125e87
guest eda5ddf9-e8e4-83ae-b0af-6f5ca989e683 1:4d5163a7ba0d0288b0cb8e31eb139548829c6e4fd4c266660e9ebb4dfbfac58e 4ae9a8df-8d2f-87e6-b746-0c45830fb318
odd-path 4d1dadeb-d411-82f3-8cc0-4f07f7a09c22 1:4d5163a7ba0d0288b0cb8e31eb139548829c6e4fd4c266660e9ebb4dfbfac58e a85d9ae5-cc57-82eb-9a67-73c434132308
"""
GOLDEN = {name: values for name, *values in map(str.split, LINES.strip().splitlines())}


@pytest.mark.parametrize("name", REQUESTS)
def test_fr051_request_is_seen_as_by_every_release(name: str) -> None:  # FR-051
    assert seen(name) == GOLDEN[name]


@cases(
    "environment",
    {
        "utf-8": {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"},
        "ascii": {
            "PYTHONHASHSEED": "1",
            "LC_ALL": "C",
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
        },
    },
)
def test_fr050_every_process_sees_the_same(environment: dict[str, str]) -> None:
    """FR-050."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.unit.test_golden_requests"],
        env={**os.environ, **environment, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        stdout=subprocess.PIPE,
        check=True,
        timeout=100,
    )

    assert json.loads(process.stdout) == GOLDEN


if __name__ == "__main__":
    django.setup()
    print(json.dumps({name: seen(name) for name in REQUESTS}))  # noqa: T201
