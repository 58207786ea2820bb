"""Sees what a view does to others: HTTP calls, mails, and functions that are named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from pkgutil import resolve_name
from typing import Any, Protocol
from unittest.mock import patch
from urllib.parse import urlsplit

from asgiref.sync import iscoroutinefunction
from django.core.mail.backends.locmem import EmailBackend

from django_idempotency.engine.outside_calls import senders
from django_idempotency.engine.steps import Steps

SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideCall:
    """Something that the other side did."""

    name: str
    """Such as ``POST pay.example/charges``, or the path of a function."""
    key: str | None
    """The key under which it was asked for; ``None``: it can't recognise a repeat."""
    is_unsafe: bool = True


class Observer(Protocol):
    """Is told of each call; what it raises is what the caller gets."""

    def before(self, call: OutsideCall) -> None: ...

    def after(self, call: OutsideCall) -> None:
        """The other side has done its part."""
        ...


class Recorder:
    """Writes down all calls of the other side, and lets each be made."""

    def __init__(self) -> None:
        self.calls: list[OutsideCall] = []

    def before(self, call: OutsideCall) -> None:
        """Let it be made."""

    def after(self, call: OutsideCall) -> None:
        self.calls.append(call)


@contextmanager
def observed(observer: Observer, names: Iterable[str] = ()) -> Iterator[None]:
    """Let the observer see each outside call of this process.

    `names` are functions that stand for the other side, such as a fake provider's:
    ``shop.payments.charge``.
    """
    handed_out: set[str] = set()
    with ExitStack() as stack:

        def replace(owner: Any, name: str, made: Any) -> None:
            stack.enter_context(patch.object(owner, name, made))

        replace(Steps, "key_for", _noting(Steps.key_for, handed_out))
        for owner, name in senders():
            replace(
                owner, name, _seen(getattr(owner, name), observer, HTTP, handed_out)
            )
        for path in names:
            owner_path, _, name = path.rpartition(".")
            owner = resolve_name(owner_path)
            replace(
                owner, name, _seen(getattr(owner, name), observer, path, handed_out)
            )
        mailing = EmailBackend.send_messages
        replace(
            EmailBackend, "send_messages", _seen(mailing, observer, MAIL, handed_out)
        )
        yield


HTTP = "HTTP"
MAIL = "a mail"


def _noting(key_for: Callable[..., str], handed_out: set[str]) -> Callable[..., str]:
    @wraps(key_for)
    def noting(*args: Any) -> str:
        key = key_for(*args)
        handed_out.add(key)
        return key

    return noting


def _seen(
    function: Callable[..., Any], observer: Observer, name: str, handed_out: set[str]
) -> Callable[..., Any]:
    def described(args: tuple[Any, ...], kwargs: dict[str, Any]) -> OutsideCall:
        texts = dict(_texts(args, kwargs))
        key = next((each for each in texts.values() if each in handed_out), None)
        key = key or next(
            (texts[each] for each in texts if _is_name_of_key(each)), None
        )
        if name != HTTP:
            return OutsideCall(name=name, key=key, is_unsafe=name != MAIL)
        method, address = _target(args, kwargs)
        return OutsideCall(
            name=f"{method} {address}", key=key, is_unsafe=method not in SAFE
        )

    @wraps(function)
    def seen(*args: Any, **kwargs: Any) -> Any:
        call = described(args, kwargs)
        observer.before(call)
        result = function(*args, **kwargs)
        try:
            observer.after(call)
        except BaseException:
            if hasattr(result, "close"):
                result.close()
            raise
        return result

    @wraps(function)
    async def seen_async(*args: Any, **kwargs: Any) -> Any:
        call = described(args, kwargs)
        observer.before(call)
        result = await function(*args, **kwargs)
        try:
            observer.after(call)
        except BaseException:
            if hasattr(result, "aclose"):
                await result.aclose()
            raise
        return result

    return seen_async if iscoroutinefunction(function) else seen


def _texts(args: Any, kwargs: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what was handed over as text, by its name: arguments and their headers."""
    named = [
        *((str(number), each) for number, each in enumerate(args)),
        *kwargs.items(),
    ]
    for name, value in named:
        if isinstance(value, str):
            yield name, value
        headers = value if isinstance(value, Mapping) else getattr(value, "headers", {})
        for header, text in dict(headers or {}).items():
            yield _text(header), _text(text)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _is_name_of_key(name: str) -> bool:
    return name.lower().replace("-", "_") in ("idempotency_key", "key")


def _target(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, str]:
    """Return the method and the address of a request of httpx, or of urllib3."""
    request = next((each for each in args if hasattr(each, "method")), None)
    if request is not None:
        parts = urlsplit(str(request.url))
        return request.method, f"{parts.netloc}{parts.path}"
    pool, *rest = args
    method, url = [*rest, kwargs.get("method"), kwargs.get("url")][:2]
    return str(method).upper(), f"{pool.host}:{pool.port}{urlsplit(str(url)).path}"
