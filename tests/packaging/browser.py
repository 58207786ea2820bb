"""A client that speaks real HTTP: part browser, part ``curl``."""

from __future__ import annotations

import http.cookiejar
import json
import shlex
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _DontFollow(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


class Browser:
    """Sends requests and keeps cookies; it follows no redirects."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPCookieProcessor(self.cookies),
            _DontFollow(),
        )

    def sign_in(self, name: str, password: str) -> None:
        self.get("/admin/login/")
        self.post("/admin/login/", {"username": name, "password": password})
        assert self._cookie("sessionid")

    def get(self, path: str) -> Answer:
        return self._send(urllib.request.Request(self.address + path))  # noqa: S310

    def post(
        self, path: str, form: Mapping[str, str], headers: Mapping[str, str] = {}
    ) -> Answer:
        data = urllib.parse.urlencode(form).encode()
        csrf = {"X-CSRFToken": token} if (token := self._cookie("csrftoken")) else {}
        return self._send(
            urllib.request.Request(  # noqa: S310 - the address is our own
                self.address + path, data, {**headers, **csrf}
            )
        )

    def curl(self, command: str) -> Answer:
        """Do what a ``curl`` command of the documentation does, at this server."""
        form: dict[str, str] = {}
        headers: dict[str, str] = {}
        words = iter(shlex.split(command))
        assert next(words) == "curl"
        for word in words:
            match word:
                case "-i":
                    pass
                case "-u":
                    credentials = b64encode(next(words).encode()).decode()
                    headers["Authorization"] = f"Basic {credentials}"
                case "-d":
                    form |= dict(urllib.parse.parse_qsl(next(words)))
                case "-H":
                    name, _, value = next(words).partition(": ")
                    headers[name] = value
                case address:
                    path = urllib.parse.urlsplit(address).path
        return self.post(path, form, headers)

    def _cookie(self, name: str) -> str | None:
        return next((c.value for c in self.cookies if c.name == name), None)

    def _send(self, request: urllib.request.Request) -> Answer:
        try:
            response = self._opener.open(request, timeout=30)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            return Answer(
                status=response.status,
                headers=response.headers,
                body=response.read(),
            )
