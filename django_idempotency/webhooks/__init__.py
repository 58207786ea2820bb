"""Receive webhooks: each event runs once, none is lost."""

from __future__ import annotations

from . import providers, verifiers
from .events import Event, NotReady, PermanentError
from .profiles import Profile, Reply
from .views import WebhookView, on, webhook

__all__ = [
    "Event",
    "NotReady",
    "PermanentError",
    "Profile",
    "Reply",
    "WebhookView",
    "on",
    "providers",
    "verifiers",
    "webhook",
]
