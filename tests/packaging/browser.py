"""A client that speaks real HTTP: part browser, part ``curl``."""

import shlex
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

import requests


class Browser:
    """Sends requests and keeps cookies; it follows no redirects."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._session = requests.Session()
        self._session.trust_env = False

    def sign_in(self, name: str, password: str) -> None:
        self.get("/admin/login/")
        self.post("/admin/login/", {"username": name, "password": password})
        assert self._session.cookies["sessionid"]

    def get(self, path: str) -> requests.Response:
        return self._session.get(self.address + path, timeout=30)

    def post(
        self, path: str, form: Mapping[str, str], headers: Mapping[str, str] = {}
    ) -> requests.Response:
        token = self._session.cookies.get("csrftoken")
        csrf = {"X-CSRFToken": token} if token else {}
        return self._session.post(
            self.address + path,
            dict(form),
            headers={**headers, **csrf},
            allow_redirects=False,
            timeout=30,
        )

    def curl(self, command: str) -> requests.Response:
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
                    name, _, password = next(words).partition(":")
                    self._session.auth = (name, password)
                case "-d":
                    form |= dict(parse_qsl(next(words)))
                case "-H":
                    name, _, value = next(words).partition(": ")
                    headers[name] = value
                case address:
                    path = urlsplit(address).path
        return self.post(path, form, headers)
