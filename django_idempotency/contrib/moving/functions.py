"""Stores that are no table of a package: your own, and one that can only be read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from django.conf import settings
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, transaction
from django.http import HttpRequest

from django_idempotency.core.decisions import InFlight, Replay, Unreadable, Verdict
from django_idempotency.core.operations import StoredAnswer
from django_idempotency.http.moving import Asked
from django_idempotency.store import old_rows

Find = Callable[[HttpRequest, str], StoredAnswer | Verdict | None]


class HandWritten:
    """A table of your own, in the database of the records, by four functions.

    Each gets the request and the key from its header, and runs in the transaction of the
    view. `find` returns the stored answer, `InFlight()`, another verdict, or ``None``.
    `claim` inserts the key, under a unique constraint that raises `IntegrityError`;
    `keep` writes the answer into that row, and `release` deletes it.

    Raises:
        ImproperlyConfigured: there is no `claim`, and old processes may still run.
    """

    def __init__(
        self,
        find: Find,
        *,
        claim: Callable[[HttpRequest, str], object] | None = None,
        keep: Callable[[HttpRequest, str, StoredAnswer], object] | None = None,
        release: Callable[[HttpRequest, str], object] | None = None,
        old_processes_stopped: bool = False,
    ) -> None:
        given = [each is not None for each in (claim, keep, release)]
        if any(given) != all(given):
            raise ImproperlyConfigured(
                "HandWritten needs claim, keep and release together: what is claimed "
                "in the old table has to be answered or freed there."
            )
        if not any(given) and not old_processes_stopped:
            raise ImproperlyConfigured(
                "Without claim, keep and release, an old process could run a key that "
                "this one is running. Write these functions, or stop all old processes "
                "before the first new one starts, and say so:\n\n"
                "    old_store = HandWritten(find, old_processes_stopped=True)"
            )
        self._find = find
        self._claim, self._keep, self._release = claim, keep, release

    def claim(self, asked: Asked) -> Verdict | None:
        if self._claim is None:
            return self._found(asked)
        try:
            with transaction.atomic(using=asked.using):
                self._claim(asked.request, asked.key)
        except IntegrityError as error:
            if not old_rows.is_taken(error, asked.using):
                raise
            return self._found(asked) or InFlight()
        return None

    def keep(self, asked: Asked, answer: StoredAnswer) -> None:
        if self._keep is not None:
            self._keep(asked.request, asked.key, answer)

    def release(self, asked: Asked) -> None:
        if self._release is not None:
            self._release(asked.request, asked.key)

    def _found(self, asked: Asked) -> Verdict | None:
        found = self._find(asked.request, asked.key)
        return Replay(found) if isinstance(found, StoredAnswer) else found


class DjangoIdempotencyKey:
    """django-idempotency-key 1.3.0 with its ``CacheKeyStorage``: answers only.

    It looks for an answer, runs the view, and stores its answer, so that a key which an
    old process is just running stands nowhere. Its answers are pickles, and a pickle
    runs what it says: none is opened here. A repeat gets 409 ``answer-unavailable``,
    unless your `reader` makes an answer of the bytes.

    Raises:
        ImproperlyConfigured: old processes may still run, or it keeps its answers in
            the memory of each process.
    """

    MEMORY = "idempotency_key.storage.MemoryKeyStorage"
    ENCODER = "idempotency_key.encoders.BasicKeyEncoder"

    def __init__(
        self,
        *,
        old_processes_stopped: bool,
        cache: str = "default",
        encoder: Callable[[HttpRequest, str], str] | None = None,
        reader: Callable[[bytes], StoredAnswer] | None = None,
    ) -> None:
        if not old_processes_stopped:
            raise ImproperlyConfigured(
                "django-idempotency-key claims nothing before it runs a view, so beside "
                "an old process no key is safe. Stop all old processes before the first "
                "new one starts, and say so:\n\n"
                "    old_store = DjangoIdempotencyKey(old_processes_stopped=True)"
            )
        theirs = getattr(settings, "IDEMPOTENCY_KEY", None)
        if theirs is not None:
            self._require_readable(theirs, encoder)
        self._cache, self._reader = cache, reader
        self._encoded = encoder or _encoded

    def claim(self, asked: Asked) -> Verdict | None:
        key, cache = self._encoded(asked.request, asked.key), caches[self._cache]
        if self._reader is None:
            # Asked for, and not read: a cache unpickles what it reads.
            return Unreadable() if cache.has_key(key) else None
        stored = cache.get(key)
        return None if stored is None else Replay(self._reader(stored))

    def keep(self, asked: Asked, answer: StoredAnswer) -> None:
        """Write nothing: nobody reads there any more."""

    def release(self, asked: Asked) -> None:
        """Free nothing: nothing was claimed."""

    def _require_readable(self, theirs: dict[str, object], encoder: object) -> None:
        storage = theirs.get("STORAGE")
        kind = storage.get("CLASS") if isinstance(storage, dict) else None
        if kind in (None, self.MEMORY):
            raise ImproperlyConfigured(
                "django-idempotency-key has kept its answers in the memory of each "
                "process, where they end with it: there is nothing to honour. Delete the "
                "line\n\n    IDEMPOTENCY_MOVING_FROM = …"
            )
        if (
            encoder is None
            and theirs.get("ENCODER_CLASS", self.ENCODER) != self.ENCODER
        ):
            raise ImproperlyConfigured(
                "django-idempotency-key has an encoder of yours in ENCODER_CLASS; only "
                "by it can a key be found. Write\n\n"
                "    old_store = DjangoIdempotencyKey(\n"
                "        old_processes_stopped=True, encoder=YourEncoder().encode_key\n"
                "    )"
            )


def _encoded(request: HttpRequest, key: str) -> str:
    """Return the key under which its own encoder keeps an answer."""
    parts = [key.encode(), request.path_info.encode(), (request.method or "").encode()]
    authorization = request.META.get("HTTP_AUTHORIZATION", "").encode()
    return hashlib.sha256(b"".join([*parts, request.body, authorization])).hexdigest()
