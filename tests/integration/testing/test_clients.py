"""Clients that send keys, deliveries that are signed, and the plugin for pytest."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.test import AsyncClient, Client, TestCase
from django.urls import path
from rest_framework.test import APIClient

from django_idempotency.decorators import idempotent
from django_idempotency.testing import (
    AsyncIdempotentClient,
    IdempotencyTestMixin,
    IdempotentClient,
    assert_idempotent,
    crash_everywhere,
    deliver,
    hammer,
    sending_keys,
)
from django_idempotency.testing.rest_framework import IdempotentAPIClient
from django_idempotency.webhooks import Profile, endpoints, providers, webhook
from django_idempotency.webhooks.deliveries import Delivery, Rejected, Verified
from django_idempotency.webhooks.verifiers import (
    StandardWebhooksLibraryVerifier,
    StripeLibraryVerifier,
)
from tests.support.deliveries import ADYEN_SECRET, SECRET
from tests.support.ordering import JSON

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

GIVEN = "7b1c5a5e-4d0e-4f0a-9f5d-0d8f0c6b2e11"


def shown(request: HttpRequest) -> HttpResponse:
    """Answer with the keys that came."""
    header = request.headers.get("Idempotency-Key")
    return JsonResponse({"keys": [header, request.POST.get("idempotency_key")]})


urlpatterns: list[Any] = [
    path("shown/", shown),
    path("moved/", lambda request: redirect("/shown/", preserve_request=True)),
    path("protected/", idempotent(shown)),
]


def keys_of(response: Any) -> list[str | None]:
    found: list[str | None] = json.loads(response.content)["keys"]
    return found


def asynchronously(client: AsyncClient) -> Any:
    """The client with the methods of a synchronous one."""
    return type(
        "", (), {"__getattr__": lambda _, name: async_to_sync(getattr(client, name))}
    )()


MAKERS: dict[str, Callable[..., Any]] = {
    "django": IdempotentClient,
    "rest": IdempotentAPIClient,
    "async": lambda **options: asynchronously(AsyncIdempotentClient(**options)),
}
PLAIN: dict[str, Callable[..., Any]] = {
    "django": Client,
    "rest": APIClient,
    "async": lambda **options: asynchronously(AsyncClient(**options)),
}
UNSAFE = ["post", "put", "patch", "delete"]


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("method", [*UNSAFE, "get", "options"])
@pytest.mark.parametrize("is_patched", [False, True])
def test_unsafe_request_has_a_key_of_its_own(
    kind: str, method: str, is_patched: bool
) -> None:
    def two_keys(client: Any) -> set[str | None]:
        return {keys_of(getattr(client, method)("/shown/"))[0] for _ in range(2)}

    if is_patched:
        with sending_keys():
            keys = two_keys(PLAIN[kind]())
        assert two_keys(PLAIN[kind]()) == {None}
    else:
        keys = two_keys(MAKERS[kind]())

    if method in UNSAFE:
        assert len(keys) == 2
        assert None not in keys
    else:
        assert keys == {None}


@pytest.mark.parametrize("kind", MAKERS)
def test_key_of_the_forms_field_is_no_key_in_json(kind: str) -> None:
    answer = MAKERS[kind]().post(
        "/shown/", data='{"idempotency_key": 5}', content_type=JSON
    )

    assert keys_of(answer)[0] is not None


@pytest.mark.parametrize(
    "tool",
    [assert_idempotent, crash_everywhere, hammer],
)
def test_async_client_is_refused_with_what_to_hand_over(
    tool: Any, transactional_db: None
) -> None:
    with pytest.raises(TypeError, match="Hand over"):
        tool(AsyncClient(), "/protected/")


def test_mixin_behind_the_test_case_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"\(IdempotencyTestMixin, TestCase"):
        type("PaymentTests", (TestCase, IdempotencyTestMixin), {})


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(
    "options",
    [{"headers": {"Idempotency-Key": GIVEN}}, {"headers": {"idempotency-key": GIVEN}}],
)
@pytest.mark.parametrize("is_default", [False, True])
def test_key_that_is_given_is_sent(
    kind: str, options: dict[str, Any], is_default: bool
) -> None:
    if is_default and kind == "async":
        # Django sends `headers` of an AsyncClient itself as Http-….
        options = {"Idempotency-Key": GIVEN}
    client = MAKERS[kind](**options if is_default else {})

    answer = client.post("/shown/", **{} if is_default else options)

    assert keys_of(answer)[0] == GIVEN


def test_key_in_meta_in_credentials_or_in_a_form_is_sent() -> None:
    signed_in = IdempotentAPIClient()
    signed_in.credentials(HTTP_IDEMPOTENCY_KEY=GIVEN)
    client = IdempotentClient()

    assert keys_of(client.post("/shown/", HTTP_IDEMPOTENCY_KEY=GIVEN))[0] == GIVEN
    assert keys_of(signed_in.post("/shown/"))[0] == GIVEN
    assert keys_of(client.post("/shown/", {"idempotency_key": "a"})) == [None, "a"]


def test_key_goes_to_where_the_request_is_sent_on() -> None:
    keys = keys_of(IdempotentClient().post("/moved/", {}, JSON, follow=True))

    assert keys[0] is not None


# Deliveries


class Own:
    """A verifier of the project's own."""

    def verify(
        self, delivery: Delivery, secrets: tuple[str, ...]
    ) -> Verified | Rejected:
        return Verified(0) if delivery.headers.get("X-Own") else Rejected("signature")

    def signed_headers(self, secret: str, body: bytes, url: str) -> dict[str, str]:
        return {"X-Own": secret}


class Unknown:
    """Nothing says how it is signed for."""

    def verify(
        self, delivery: Delivery, secrets: tuple[str, ...]
    ) -> Verified | Rejected:
        return Rejected("signature")


STANDARD_SECRET = "whsec_dGhlIHNlY3JldCBvZiB0aGUgdGVzdHM="  # noqa: S105 - of the tests
ADYEN_ITEM = {
    "pspReference": "A",
    "merchantAccountCode": "Merchant",
    "merchantReference": "Order",
    "amount": {"value": 1130, "currency": "EUR"},
    "eventCode": "AUTHORISATION",
    "success": "true",
}
BODIES: dict[str, Any] = {
    "adyen": {
        "live": "true",
        "notificationItems": [{"NotificationRequestItem": ADYEN_ITEM}],
    },
    "gocardless": {"events": [{"id": "EV1"}]},
    "twilio": {"MessageSid": "SM1", "MessageStatus": "sent"},
}
SECRETS = {
    "adyen": ADYEN_SECRET,
    "standardwebhooks": STANDARD_SECRET,
    "svix": STANDARD_SECRET,
}
PROFILES: list[Profile] = [
    *(getattr(providers, name) for name in providers.__all__),
    dataclasses.replace(providers.STRIPE, verifier=StripeLibraryVerifier()),
    dataclasses.replace(
        providers.STANDARD_WEBHOOKS, verifier=StandardWebhooksLibraryVerifier()
    ),
    dataclasses.replace(providers.STRIPE, verifier=Own()),
]


@pytest.fixture
def _receivers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "_endpoints", {})


@pytest.mark.usefixtures("_receivers")
@pytest.mark.parametrize("profile", PROFILES, ids=range(len(PROFILES)))
def test_delivery_is_verified_by_each_profile(profile: Profile) -> None:
    seen: list[Any] = []
    secret = SECRETS.get(profile.name, SECRET)
    receiver = webhook(profile, secrets=secret)(lambda event: seen.append(event))
    urlpatterns.append(path("hook/", receiver))
    event = BODIES.get(
        profile.name, {"id": "evt_1", "event_id": "evt_1", "type": "paid"}
    )
    try:
        answers = [
            deliver(
                Client(raise_request_exception=False), "/hook/", profile, each, event
            )
            for each in (secret, "00" * 32)
        ]
    finally:
        urlpatterns.pop()

    good, forged = answers
    assert good.status_code == profile.success.status
    assert len(seen) == 1
    if not isinstance(profile.verifier, Own):
        assert forged.status_code == profile.rejected_status


@pytest.mark.usefixtures("_receivers")
def test_twilios_digest_of_the_body_is_signed_with_the_address() -> None:
    receiver = webhook(providers.TWILIO, secrets=SECRET)(lambda event: None)
    urlpatterns.append(path("hook/", receiver))
    body = b"MessageSid=SM1&MessageStatus=sent"
    where = f"/hook/?bodySHA256={hashlib.sha256(body).hexdigest()}"
    try:
        answer = deliver(Client(), where, providers.TWILIO, SECRET, body)
    finally:
        urlpatterns.pop()

    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("profile", "event", "says"),
    [
        (
            dataclasses.replace(providers.STRIPE, verifier=Unknown()),
            {},
            "def signed_headers",
        ),
        (
            providers.ADYEN,
            {
                "notificationItems": [
                    {"NotificationRequestItem": {**ADYEN_ITEM, "success": "a:b"}}
                ]
            },
            "Adyen signs no such item",
        ),
    ],
)
def test_what_can_not_be_signed_is_refused(profile: Any, event: Any, says: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=says):
        deliver(Client(), "/hook/", profile, ADYEN_SECRET, event)


# The plugin

ROOT = Path(__file__).parents[3]
SETTINGS = """
from django.conf import settings
settings.configure(ROOT_URLCONF="urls", ALLOWED_HOSTS=["*"], INSTALLED_APPS=["rest_framework"])
import django
django.setup()
"""
URLS = """
from django.http import HttpResponse
from django.urls import path
urlpatterns = [path("", lambda request: HttpResponse(request.headers.get("Idempotency-Key", "none")))]
"""
FIXTURES = """
import pytest
import django_project
from asgiref.sync import async_to_sync
from django.test import Client

def test_fixtures(idempotent_client, async_idempotent_client, idempotent_api_client):
    for post in (idempotent_client.post, async_to_sync(async_idempotent_client.post), idempotent_api_client.post):
        assert len(post("/").content) == 36

def test_others():
    assert len(Client().post("/").content) == {length}
"""
INERT = """
import sys

def test_nothing_is_imported():
    loaded = {each.partition(".")[0] for each in sys.modules}
    assert "django" not in loaded
    assert ("django_idempotency" in loaded) is {is_loaded}
"""


def run_pytest(folder: Path, test: str, *options: str) -> str:
    """Run pytest where nothing but this package is installed with its entry point."""
    named = folder / "site/django_idempotency-0.dist-info"
    named.mkdir(parents=True)
    entry_points = (ROOT / "pyproject.toml").read_text().split("pytest11]\n")[1]
    line = entry_points.splitlines()[0].replace('"', "")
    (named / "entry_points.txt").write_text(f"[pytest11]\n{line}\n")
    (named / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: django-idempotency\nVersion: 0\n"
    )
    for name, text in {
        "django_project": SETTINGS,
        "urls": URLS,
        "test_it": test,
    }.items():
        (folder / f"{name}.py").write_text(text)
    others = "django schemathesis randomly xdist hypothesispytest anyio"
    without = [option for name in others.split() for option in ("-p", f"no:{name}")]
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "pytest", "-q", *without, *options, "test_it.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{folder / 'site'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.programs
@pytest.mark.parametrize(
    ("test", "options"),
    [
        (FIXTURES.replace("{length}", "4"), []),
        (FIXTURES.replace("{length}", "36"), ["-o", "idempotency_keys=true"]),
        (INERT.replace("{is_loaded}", "True"), []),
        (INERT.replace("{is_loaded}", "False"), ["-p", "no:django_idempotency"]),
    ],
    ids=["fixtures", "keys", "inert", "switched off"],
)
def test_plugin_is_found_and_costs_nothing(
    tmp_path: Path, test: str, options: list[str]
) -> None:
    said = run_pytest(tmp_path, test, *options)

    assert "passed" in said, said
    assert "failed" not in said
    assert "error" not in said, said
