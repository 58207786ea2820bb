"""The shop of the page on Stripe, whose answers get lost; also a URLconf.

The code is that of the page. A request says in a header what becomes of the answer of its
call: each request has a process of its own.
"""

import os
import re
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import stripe
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from example_project.checkout import models
from tests.example.kills.serve import FOLDER_VARIABLE
from tests.support.deliveries import SECRET

HOWTO = Path(__file__).parents[3] / "docs/howto"
PAYMENTS, VIEWS, HOLDING, RECEIVER = re.findall(
    r"^```python\n(.*?)^```$",
    (HOWTO / "charge-with-stripe.md").read_text(encoding="utf-8"),
    re.M | re.S,
)
CALL = VIEWS[VIEWS.index("paid = ") : VIEWS.index("    except CallRefused")]
HOLDING = HOLDING.replace("\n", "\n        ").rstrip() + "\n"

HOLD, REPEAT, HOLD_BY_REFERENCE = "hold/", "repeat/", "hold-by-reference/"
BY_KEY, BY_REFERENCE = "by-key", "by-reference"


class Doom:
    """Middleware: reads from a header what becomes of the answer of the call.

    ``lose``: it gets lost. ``kill``: the process dies when it has come. ``wait``: it
    comes when `let_go` is called, and ``wait kill``: then the process dies.
    """

    what = ""
    key = ""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        Doom.what = request.headers.get("Doom-At", "")
        Doom.key = request.headers.get("Idempotency-Key", "")
        return self.get_response(request)


class Losing(stripe.RequestsClient):
    """Stripe's own way to send."""

    def request(self, *args: Any, **kwargs: Any) -> Any:
        answer = super().request(*args, **kwargs)
        if "wait" in Doom.what:
            folder = Path(os.environ[FOLDER_VARIABLE])
            (folder / f"{Doom.key}.came").touch()
            while not (folder / f"{Doom.key}.go").exists():
                time.sleep(0.01)
        if "kill" in Doom.what:
            os.kill(os.getpid(), signal.SIGKILL)
        if "lose" in Doom.what:
            error: type[Any] = stripe.APIConnectionError
            raise error("The answer got lost.")
        return answer


def copied(name: str, code: str, **others: ModuleType) -> dict[str, Any]:
    """Run a block of the page as a module of a package with these others."""
    package = f"copied_{name}"
    for other, module in {"models": models, **others}.items():
        sys.modules[f"{package}.{other}"] = module
    sys.modules[package] = ModuleType(package)
    module = ModuleType(f"{package}.block")
    module.__package__ = package
    exec(code, vars(module))  # noqa: S102 - our own page
    return vars(module)


def shop(name: str, payments: str, views: str) -> Any:
    module = ModuleType("payments")
    vars(module).update(copied(f"{name}_payments", payments))
    return copied(name, views, payments=module)["checkout"]


settings.STRIPE_WEBHOOK_SECRET = SECRET
stripe.StripeClient = partial(  # type: ignore[assignment,misc]
    stripe.StripeClient, base_addresses={"api": os.environ["STRIPE_API_BASE"]}
)
stripe.RequestsClient = Losing  # type: ignore[misc]

# The same for a provider that doesn't echo the key: by what the call hands over.
WITH_REFERENCE = 'if_unknown="hold", reference=str(amount)'
WITH_METADATA = '"currency": "eur", "metadata": {"ours": str(amount_minor)},'
WITHOUT_ECHO = (
    'replace(providers.STRIPE, call_key=(), reference="data.object.metadata.ours")'
)

urlpatterns = [
    path(REPEAT, shop("repeat", PAYMENTS, VIEWS)),
    path(HOLD, shop("hold", PAYMENTS, VIEWS.replace(CALL, HOLDING))),
    path(
        HOLD_BY_REFERENCE,
        shop(
            "by_reference",
            PAYMENTS.replace('"currency": "eur",', WITH_METADATA),
            VIEWS.replace(CALL, HOLDING.replace('if_unknown="hold"', WITH_REFERENCE)),
        ),
    ),
    path(f"{BY_KEY}/", copied("by_key", RECEIVER)["charges"]),
    path(
        f"{BY_REFERENCE}/",
        copied(
            "receiver_by_reference",
            "from dataclasses import replace\n"
            + RECEIVER.replace("providers.STRIPE", WITHOUT_ECHO).replace(
                'endpoint="charges"', 'endpoint="charges-by-reference"'
            ),
        )["charges"],
    ),
    path("admin/", admin.site.urls),
    path("", include("example_project.urls")),
]
