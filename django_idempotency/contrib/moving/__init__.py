"""Moving over from another package, or from a table of your own.

One object says where the keys were before; ``IDEMPOTENCY_MOVING_FROM`` is its dotted
path. As long as it is set, each claim is made there as well.
"""

from django_idempotency.core.decisions import (
    Held,
    InFlight,
    Mismatch,
    Replay,
    Unreadable,
)
from django_idempotency.core.operations import StoredAnswer

from .functions import DjangoIdempotencyKey, HandWritten
from .idemkit import Idemkit
from .tables import (
    DjangorestframeworkIdempotencyKey,
    DrfIdempotency,
    DrfIdempotencykey,
)

__all__ = [
    "DjangoIdempotencyKey",
    "DjangorestframeworkIdempotencyKey",
    "DrfIdempotency",
    "DrfIdempotencykey",
    "HandWritten",
    "Held",
    "Idemkit",
    "InFlight",
    "Mismatch",
    "Replay",
    "StoredAnswer",
    "Unreadable",
]
