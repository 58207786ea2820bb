"""The code of the pages about webhooks, run, and used as somebody does who copies it.

Each receiver meets a second change of the same object, a delivery that comes again, an
attempt that fails after it has written, and a payment that is declined.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, RequestFactory
from django.urls import path

from django_idempotency.webhooks import (
    Event,
    Profile,
    WebhookView,
    on,
    providers,
    webhook,
)
from django_idempotency.webhooks.deliveries import Rejected, Verified, Verifier
from django_idempotency.webhooks.endpoints import _endpoints
from tests.integration.webhooks.receivers import handle, make_due, scene, steps
from tests.support.cases import cases
from tests.support.deliveries import SECRET, Sent, deliver, github, stripe
from tests.testapp.models import Order
from tests.unit.webhooks.deliveries import delivery

ROOT = Path(__file__).resolve().parents[3]
HOWTO, PROFILE_HOWTO = "docs/howto/webhooks.md", "docs/howto/write-a-webhook-profile.md"
CHARGED = "docs/explanation/charged-and-gone.md"


def blocks(page: str, marker: str = "") -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for block in found if marker in block]


@pytest.fixture(autouse=True)
def _only_what_a_page_declares(settings: Any) -> Any:
    """Each page has a project of its own."""
    settings.STRIPE_WEBHOOK_SECRET = settings.GITHUB_WEBHOOK_SECRET = SECRET
    settings.PADDLE_WEBHOOK_SECRET = SECRET
    settings.NEW_SECRET, settings.OLD_SECRET = "new", "old"
    before = dict(_endpoints)
    yield
    _endpoints.clear()
    _endpoints.update(before)


class Books:
    """A model of the page; what is written is a row of the tests' own."""

    def __init__(self) -> None:
        self.objects = self
        self.fails = False
        """Whether the next one who writes doesn't get to the end."""

    def _write(self, write: Callable[[], Any]) -> Any:
        written = write()
        if self.fails:
            raise TimeoutError
        return written

    def filter(self, **fields: Any) -> Any:
        return Order.objects.filter(reference=str(fields))

    def get(self, **fields: Any) -> Any:
        found = self.filter(**fields).get()
        found.mark_paid = lambda: self._write(Order.objects.create)
        return found

    def get_or_create(self, defaults: Any = None, **fields: Any) -> Any:
        return self._write(lambda: Order.objects.get_or_create(reference=str(fields)))


class Lookup(Books):
    """The same, where the page looks an order up before it is paid."""

    def filter(self, **fields: Any) -> Any:
        return self

    def first(self) -> Any:
        return self

    def mark_paid(self) -> None:
        self._write(Order.objects.create)

    get = filter


def run(page: str, *markers: str, **names: Any) -> dict[str, Any]:
    """Return what these blocks of the page have made."""
    namespace: dict[str, Any] = {"__name__": "shop.webhooks", **names}
    exec(PREAMBLE, namespace)  # noqa: S102 - our own
    for marker in markers:
        for block in blocks(page, marker):
            code = block.replace("from .models import Order\n", "")
            exec(code, namespace)  # noqa: S102 - our own page
    return namespace


PREAMBLE = """
import hashlib
from datetime import timedelta
from django.conf import settings
from django.urls import path
from django.utils import timezone
from django_idempotency.webhooks import *
from django_idempotency.webhooks.verifiers import HMACVerifier
"""


def succeeded(number: int, payment: str, **fields: Any) -> Sent:
    content = {"object": {"id": payment, "metadata": {"cart": 7}}, "number": number}
    kind = {"type": "payment_intent.succeeded"}
    return stripe(f"evt_{number}", **{**kind, "data": content, **fields})


def declined(number: int) -> Sent:
    return succeeded(number, "pi_1", type="payment_intent.payment_failed")


def acme(number: int, order: str, kind: str = "order.paid") -> Sent:
    content = {"event": {"id": f"e-{number}", "type": kind, "order": order}}
    body = json.dumps(content).encode()
    digest = hmac.new(b"the newest secret", body, hashlib.sha256).hexdigest()
    return Sent(body, {"X-Acme-Signature": f"sha256={digest}"})


def merged(delivery_id: str, commit: str, **changes: Any) -> Sent:
    content = {
        "action": "closed",
        "pull_request": {"merged": True, "merge_commit_sha": commit},
        "repository": {"full_name": "shop/shop"},
    } | changes
    sent = github(delivery_id, body=json.dumps(content).encode())
    return Sent(sent.body, {**sent.headers, "X-GitHub-Event": "pull_request"})


# Signed when they are delivered: a timestamp is believed for five minutes.
STRIPE_STORY = [
    (partial(succeeded, 1, "pi_1"), 1),
    (partial(declined, 2), 1),
    (partial(succeeded, 3, "pi_1"), 2),
    (partial(succeeded, 4, "pi_2"), 3),
]
STORIES: dict[str, tuple[str, list[str], str, Any, Any]] = {
    "how-to, class": (HOWTO, ["def paid"], "StripeEvents", Lookup, STRIPE_STORY),
    "README": (
        "README.md",
        ["def stripe_events"],
        "stripe_events",
        Lookup,
        STRIPE_STORY,
    ),
    "charged and gone": (
        CHARGED,
        ["class StripeEvents"],
        "StripeEvents",
        Books,
        [
            (partial(succeeded, 1, "pi_1"), 1),
            (partial(declined, 2), 1),
            (partial(succeeded, 3, "pi_1"), 1),  # one order for each charge
            (partial(succeeded, 4, "pi_2"), 2),
            # Not of this shop: it must not fail for days.
            (
                partial(
                    succeeded,
                    5,
                    "pi_3",
                    data={"object": {"id": "pi_3", "metadata": {}}},
                ),
                2,
            ),
        ],
    ),
    "profile": (
        PROFILE_HOWTO,
        ["ACME = ", "def acme_events"],
        "acme_events",
        Books,
        [
            (partial(acme, 1, "A-7"), 1),
            (partial(acme, 2, "A-7"), 1),
            (partial(acme, 3, "A-7", "order.refunded"), 1),
            (partial(acme, 4, "A-8"), 2),
        ],
    ),
    "unsigned": (
        HOWTO,
        ["class GitHubEvents"],
        "GitHubEvents",
        Books,
        [
            (partial(merged, "1", "c1"), 1),
            (partial(merged, "another id, the same body", "c1"), 1),
            (partial(merged, "3", "c2"), 2),
            (partial(merged, "4", "c3", action="opened"), 2),
            (partial(merged, "5", "c4", pull_request=None), 2),
        ],
    ),
}


def post(view: Any, sent: Sent) -> int:
    request = RequestFactory().post(
        "/", sent.body, "application/json", headers={**sent.headers}
    )
    status: int = view(request).status_code
    return status


def as_view(receiver: Any) -> Any:
    return receiver.as_view() if hasattr(receiver, "as_view") else receiver


@pytest.mark.django_db(transaction=True)
@cases("page, markers, name, model, story", STORIES)
def test_copied_receiver_handles_each_change_once(
    page: str, markers: list[str], name: str, model: Any, story: Any
) -> None:
    _endpoints.clear()
    books = model()
    names: dict[str, Any] = {"Order": books, "Deployment": books}
    if page == CHARGED:
        (models,) = blocks(page, "def order_for")
        exec(models[models.index("def order_for") :], names)  # noqa: S102 - our own
        names["client"] = None
    view = as_view(run(page, *markers, **names)[name])

    for make, effects in story:
        for books.fails in (True, False, False):
            status = post(view, make())
            make_due()
            steps()
        assert (status, Order.objects.count()) == (200, effects)


IDENTITIES = blocks(HOWTO, "def identity")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", range(len(IDENTITIES)))
def test_copied_identity_loses_no_later_change(number: int) -> None:
    """Not even one that brings an object back to what it was, in the same second."""
    namespace: dict[str, Any] = {"hashlib": hashlib}
    exec(IDENTITIES[number], namespace)  # noqa: S102 - our own page

    class Copied(WebhookView):
        profile = providers.STRIPE
        secrets = SECRET
        endpoint = "tested-copied"
        identity = namespace["identity"]

        @on("invoice.paid", "v1.invoice.paid")
        def paid(self, event: Event) -> None:
            handle(event)

    view = Copied.as_view()
    for event_id, state in (("evt_1", "open"), ("evt_2", "paid"), ("evt_3", "open")):
        content = {"object": {"id": "in_1", "status": state}}
        for _ in range(2):
            assert post(view, stripe(event_id, data=content)) == 200

    assert scene.handled == ["evt_1", "evt_2", "evt_3"]
    if "snapshot_event" in IDENTITIES[number]:
        thin = stripe("evt_thin", type="v1.invoice.paid", snapshot_event="evt_3")
        assert post(view, thin) == 200
        assert scene.handled == ["evt_1", "evt_2", "evt_3"]


def test_identity_is_shown() -> None:
    assert IDENTITIES


def test_second_receiver_of_a_provider_needs_a_name() -> None:
    """Whoever copies two of them is told so, and not by a lost event."""
    _endpoints.clear()
    namespace = run(HOWTO, "def paid", Order=Lookup())
    namespace["StripeEvents"].as_view()
    with pytest.raises(ImproperlyConfigured, match="different names"):
        exec(blocks(HOWTO, "def stripe_events")[0], namespace)  # noqa: S102


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("page", [HOWTO, CHARGED])
def test_copied_outside_call_is_made_under_one_key(page: str) -> None:
    """Declined, then with a lost answer, then done: for each event one key."""
    (code,) = blocks(page, "client.v1.refunds.create(")
    keys: list[str] = []
    troubles = [ValueError("declined"), TimeoutError(), None, None]

    class Refunds:
        def create(self, *given: Any, **call: Any) -> None:
            keys.append(call["options"]["idempotency_key"])
            if trouble := troubles.pop(0):
                raise trouble

    books = Books()
    names = {"client": type("C", (), {"v1": type("V", (), {"refunds": Refunds()})})}

    def refund(event: Event) -> None:
        intent = {"id": event.id}
        exec(code, {**names, "event": event, "intent": intent, "Refund": books})  # noqa: S102

    scene.act = refund
    view = webhook(providers.STRIPE, secrets=SECRET, endpoint="tested-inline")(handle)
    for event_id in ("evt_1", "evt_1", "evt_1", "evt_2"):
        post(view, stripe(event_id))

    assert len(set(keys[:3])) == 1
    assert len(set(keys)) == 2


# The how-to "Write a webhook profile", in order.

PAGE = (ROOT / PROFILE_HOWTO).read_text(encoding="utf-8")
BLOCKS = blocks(PROFILE_HOWTO)


@pytest.fixture
def namespace(settings: Any) -> dict[str, Any]:
    """What the page has made, and its receiver in the URLconf."""
    namespace: dict[str, Any] = {"Order": Order, "__name__": "shop.webhooks"}
    for block in BLOCKS:
        exec(block, namespace)  # noqa: S102 - our own page
    settings.ROOT_URLCONF = (path("webhooks/acme/", namespace["acme_events"]),)
    return namespace


@pytest.mark.django_db(transaction=True)
def test_page_works_as_it_is_written(client: Client, namespace: dict[str, Any]) -> None:
    namespace["test_delivery_of_acme_is_handled_once"](client)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("namespace")
def test_page_s_own_test_fails_under_another_secret(client: Client) -> None:
    signed = hmac.new(b"another", b"{}", hashlib.sha256).hexdigest()
    sent = Sent(b"{}", {"X-Acme-Signature": f"sha256={signed}"})

    assert deliver("/webhooks/acme/", sent, client).status_code == 401


def test_profile_has_ten_lines() -> None:
    (profile,) = re.findall(r"^ACME = Profile\(.*?^\)$", BLOCKS[0], re.M | re.S)

    assert len(profile.splitlines()) <= 10


def test_parts_of_an_id_are_found(namespace: dict[str, Any]) -> None:
    profile = namespace["ACME_PAYMENTS"]
    assert isinstance(profile, Profile)
    states = [("active", 1), ("paused", 2), ("active", 3)]
    contents = [
        {"payment": {"id": "p-1", "status": status, "updated_at": f"{second}s"}}
        for status, second in states
    ]

    ids = [each.id for one in contents for each in profile.events(delivery(), one)]
    assert ids == ["p-1:active:1s", "p-1:paused:2s", "p-1:active:3s"]


def test_own_verifier_tells_tokens_apart(namespace: dict[str, Any]) -> None:
    verifier: Verifier = namespace["TokenVerifier"]()
    verdicts = [
        verifier.verify(delivery(headers={"X-Acme-Token": token}), ("new", "old", ""))
        for token in ("old", "", "é")
    ]

    assert verdicts == [Verified(1), Rejected("token"), Rejected("token")]
