from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Warning
from django.utils.module_loading import import_string

from django_idempotency.middleware import OutcomeMiddleware

HINT = (
    "MIDDLEWARE = [\n"
    f'    "{OutcomeMiddleware.__module__}.{OutcomeMiddleware.__name__}",  # first, and once\n'
    "    …"
)


def check_middleware(
    app_configs: Collection[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Check that everybody who judges a view sees what a question asks about."""
    return list(_order([*settings.MIDDLEWARE]))


def _order(paths: list[str]) -> Iterator[CheckMessage]:
    kinds = [_imported(path) for path in paths]
    ours = [place for place, kind in enumerate(kinds) if _is_ours(kind)]
    if not ours:
        return
    if len(ours) > 1:
        yield _warning("OutcomeMiddleware is listed twice: each question is refused.")
    for path, kind in zip(paths[: ours[0]], kinds, strict=False):
        # Django's own judge a GET and a POST alike, or let the view do it again.
        if hasattr(kind, "process_view") and not path.startswith("django."):
            yield _warning(
                f"{path} is listed before OutcomeMiddleware: its process_view() takes a "
                "question about a POST for a GET, and may let pass who may not send that."
            )


def _warning(text: str) -> CheckMessage:
    return Warning(text, hint=HINT, id="django_idempotency.W052")


def _imported(path: str) -> Any:
    try:
        return import_string(path)
    except ImportError:  # Django says so itself
        return None


def _is_ours(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, OutcomeMiddleware)
