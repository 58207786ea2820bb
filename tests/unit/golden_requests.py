"""Requests whose record ids and fingerprints may never change within a version.

As a program it prints what this process makes of them: run in processes with other
hash seeds and locales, it must print the same::

    python -m tests.unit.golden_requests
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import django
from django.test import RequestFactory

BOUNDARY = "multipart/form-data; boundary=x"


def _multipart(*parts: str) -> bytes:
    return b"".join(
        f"--x\r\nContent-Disposition: form-data; {part}\r\n".encode() for part in parts
    ) + (b"--x--\r\n")


# name: (method, path, content type, body, user)
REQUESTS: dict[str, tuple[str, str, str, bytes, str | None]] = {
    "json": ("POST", "/orders/", "application/json", b'{"b": [1, 2], "a": "x"}', "1"),
    "json-numbers": (
        "POST",
        "/orders/",
        "application/json",
        b"[0, -0.0, 1.50, 12e3, 1e-7, 9007199254740993, 1e400]",
        "1",
    ),
    "json-text": (
        "POST",
        "/orders/",
        "application/vnd.api+json; charset=utf-8",
        '{"name": "Ünïcödé İı 😀\\u0000\\ud800", "Ä": null, "z": true}'.encode(),
        "1",
    ),
    "json-odd": ("POST", "/orders/", "application/json", b'{"a": 1, "a": 2}', "1"),
    "json-cut-off": ("POST", "/orders/", "application/json", b'{"a": \xff', "1"),
    "empty": ("DELETE", "/orders/7/", "", b"", "1"),
    "query": ("POST", "/orders/?b=2&a=1&b=1&c=%C3%A9", "", b"", "1"),
    "text": ("PUT", "/notes/1", "text/plain; format=flowed", b"caf\xe9\x00", "1"),
    "form": (
        "POST",
        "/pay/",
        "application/x-www-form-urlencoded",
        b"b=2&a=%C3%A9&b=1&csrfmiddlewaretoken=q&idempotency_key=k",
        "1",
    ),
    "multipart": (
        "POST",
        "/pay/",
        BOUNDARY,
        _multipart('name="b"\r\n\r\n2', 'name="a"\r\n\r\né'),
        "1",
    ),
    "multipart-file": (
        "POST",
        "/pay/",
        BOUNDARY,
        _multipart(
            'name="a"\r\n\r\n1',
            'name="f"; filename="Ü.txt"\r\nContent-Type: text/plain\r\n\r\nbytes\0',
        ),
        "1",
    ),
    "patch-multipart": (
        "PATCH",
        "/pay/",
        BOUNDARY,
        _multipart('name="a"\r\n\r\n1'),
        "1",
    ),
    "other-user": ("POST", "/orders/", "application/json", b"{}", "a@example.com"),
    "guest": ("POST", "/orders/", "application/json", b"{}", None),
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
    from django_idempotency.http import operation_of
    from django_idempotency.keys import derive_key
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


def main() -> None:
    django.setup()
    print(json.dumps({name: seen(name) for name in REQUESTS}))  # noqa: T201


if __name__ == "__main__":
    main()
