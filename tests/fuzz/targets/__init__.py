"""All of them, by name; imported when Django is set up."""

from tests.fuzz.target import Target

from .clients import RETRIES
from .keys import KEYS
from .payloads import FORMS, JSON, REQUESTS
from .stored import AT_REST, ROWS, SHOWN
from .webhooks import EVENTS, SIGNATURES
from .whole import RECEIVERS, SITE

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        *(KEYS, JSON, FORMS, REQUESTS, SIGNATURES, EVENTS),
        *(AT_REST, ROWS, SHOWN, RETRIES, SITE, RECEIVERS),
    )
}
