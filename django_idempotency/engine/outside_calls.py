"""Finds outside calls without a key, whose repeats nobody could recognise.

For development and tests, by IDEMPOTENCY_OUTSIDE_CALLS. When an atomic operation runs
again, so do its outside HTTP calls; they must be made by `call()`, or with a key from
`key_for()`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from django_idempotency.conf import conf
from django_idempotency.exceptions import UnkeyedOutsideCall

from .steps import RunningSteps, running_steps

logger = logging.getLogger("django_idempotency")

# The functions through which all calls of a library go. requests uses urllib3, as do
# libraries built on it, such as payment providers' clients.
SENDERS = {
    "httpx": [("Client", "send"), ("AsyncClient", "send")],
    "urllib3": [("connectionpool.HTTPConnectionPool", "urlopen")],
}
LIBRARIES = frozenset(
    {"django_idempotency", "httpcore", "httpx", "requests", "stripe", "urllib3"}
)


def install() -> None:
    """Watch the installed libraries; calling it again does nothing."""
    for owner, name in senders():
        sender = getattr(owner, name)
        if not hasattr(sender, "_idempotency_guarded"):
            setattr(owner, name, _guarded(sender))


def senders() -> Iterator[tuple[Any, str]]:
    """Yield the classes of the installed libraries, and the methods that send."""
    for library, methods in SENDERS.items():
        if find_spec(library) is None:
            continue
        for path, name in methods:
            owner: Any = import_module(library)
            for part in path.split("."):
                owner = getattr(owner, part)
            yield owner, name


def _guarded(send: Callable[..., Any]) -> Callable[..., Any]:
    # The check runs when an async sender is called; only sending is awaited.
    @wraps(send)
    def guarded(sender: Any, *args: Any, **kwargs: Any) -> Any:
        steps = running_steps.get(None)
        if steps is not None and not steps.has_handed_key_out:
            _complain(steps, sender, args)
        return send(sender, *args, **kwargs)

    guarded._idempotency_guarded = True  # type: ignore[attr-defined]
    return guarded


def _complain(steps: RunningSteps, sender: Any, args: tuple[Any, ...]) -> None:
    """Log or raise, as the setting says; what is raised is raised again at the end.

    Raises:
        UnkeyedOutsideCall
    """
    wish = conf.IDEMPOTENCY_OUTSIDE_CALLS
    if wish == "ignore":
        return
    sentence = (
        f"{_line()} calls {_host(sender, args)} inside the transaction of an idempotent "
        "operation, without a key: a retry after a crash would do it again. Write\n\n"
        '    request.idempotency.call("charge", lambda key: …)\n\n'
        'or pass request.idempotency.key_for("charge") to the other side.'
    )
    logger.warning("%s", sentence, extra={"action": "outside_call"})
    if wish == "raise":
        steps.unkeyed_call = UnkeyedOutsideCall(sentence)
        raise steps.unkeyed_call


def _host(sender: Any, args: tuple[Any, ...]) -> str:
    """Return the host only: the path may contain a secret."""
    url = getattr(args[0], "url", None) if args else None
    if url is not None:
        return urlsplit(str(url)).netloc
    return f"{getattr(sender, 'host', '?')}:{getattr(sender, 'port', '?')}"


def _line() -> str:
    """Find the caller: the innermost frame outside of all libraries."""
    frame = sys._getframe(2)
    while frame.f_back is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in LIBRARIES:
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
