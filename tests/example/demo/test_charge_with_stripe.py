"""The page on Stripe, with its official client: what a copier gets, on a bad day too."""

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import stripe
from django.contrib.auth.models import User
from django.test import Client
from django.urls import path

from django_idempotency.models import IdempotencyRecord
from example_project.checkout import models
from example_project.checkout.models import Order
from example_project.theatre.demo.ledger import Ledger
from example_project.theatre.demo.stage import API_KEY, Stage
from tests.example.factories import CartFactory
from tests.factories import UserFactory
from tests.support.client import new_key
from tests.support.servers import free_port

PAGE = Path(__file__).parents[3] / "docs/howto/charge-with-stripe.md"
PAYMENTS, VIEWS, HOLDING, _ = re.findall(
    r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S
)
CALL = VIEWS[VIEWS.index("paid = ") : VIEWS.index("    except CallRefused")]
ROWS = re.findall(
    r"^\| (\d.*?) \| `(\w+)` \| (.*?) \|$", PAGE.read_text(encoding="utf-8"), re.M
)

GOOD, DECLINED = "pm_card_visa", "pm_card_chargeCustomerFail"

pytestmark = pytest.mark.django_db(transaction=True)


class Losing(stripe.RequestsClient):
    """Stripe's own way to send, from which some answers get lost."""

    losses = 0

    def request(self, *args: Any, **kwargs: Any) -> Any:
        answer = super().request(*args, **kwargs)
        if Losing.losses:
            Losing.losses -= 1
            error: type[Any] = stripe.APIConnectionError
            raise error("The answer got lost.")
        return answer


Shop = Callable[..., None]


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Shop:
    """Make a shop of the page's blocks, whose Stripe has this address."""

    def copied(address: str, *, views: str = VIEWS) -> None:
        settings.STRIPE_API_KEY = API_KEY
        at_address = partial(stripe.StripeClient, base_addresses={"api": address})
        monkeypatch.setattr(stripe, "StripeClient", at_address)
        monkeypatch.setattr(stripe, "RequestsClient", Losing)
        urls = ModuleType("copied_urls")
        for name, code in (("payments", PAYMENTS), ("views", views)):
            module = ModuleType(f"copied.{name}")
            module.__package__ = "copied"
            monkeypatch.setitem(sys.modules, module.__name__, module)
            exec(code, vars(module))  # noqa: S102 - our own page
        urls.urlpatterns = [path("checkout/", vars(module)["checkout"])]  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "copied_urls", urls)
        settings.ROOT_URLCONF = "copied_urls"

    monkeypatch.setitem(sys.modules, "copied", ModuleType("copied"))
    monkeypatch.setitem(sys.modules, "copied.models", models)
    monkeypatch.setattr(Losing, "losses", 0)
    return copied


class Customer:
    def __init__(self) -> None:
        self.user: User = UserFactory.create()
        self.http = Client(raise_request_exception=False)
        self.http.force_login(self.user)
        self.cart = CartFactory.create(
            user=self.user, item__quantity=1, item__product__price_minor=1250
        )

    def pay(self, key: str, card: str = GOOD) -> str:
        answer = self.http.post(
            "/checkout/",
            {"cart": self.cart.pk, "payment_method": card},
            headers={"Idempotency-Key": key},
        )
        replayed = answer.headers.get("Idempotency-Replayed") == "true"
        if "problem" in answer.headers["Content-Type"]:
            return f"{answer.status_code} {json.loads(answer.content)['code']}"
        return f"{answer.status_code}{' replayed' if replayed else ''}"


@pytest.fixture
def ada() -> Customer:
    return Customer()


@pytest.fixture
def at_stripe(shop: Shop, stage: Stage, ledger: Ledger) -> Callable[[], list[int]]:
    """What localstripe has charged and declined since."""
    shop(stage.gateway_url)
    before = ledger.now()

    def since() -> list[int]:
        now = ledger.now() - before
        return [now.charges, now.declines]

    return since


def test_repeat_is_one_charge_and_another_purchase_another(
    ada: Customer, at_stripe: Callable[[], list[int]]
) -> None:
    key = new_key()
    grace = Customer()

    assert [ada.pay(key), ada.pay(key)] == ["201", "201 replayed"]
    assert [grace.pay(key), grace.pay(key)] == ["201", "201 replayed"]
    assert at_stripe() == [2, 0]


def test_declined_card_is_answered_and_another_card_pays(
    ada: Customer, at_stripe: Callable[[], list[int]]
) -> None:
    key = new_key()

    assert [ada.pay(key, DECLINED) for _ in range(2)] == ["402", "402 replayed"]
    assert Order.objects.count() == 0
    assert ada.pay(new_key()) == "201"
    assert at_stripe() == [1, 1]


@pytest.mark.parametrize(("card", "words"), [(GOOD, "201"), (DECLINED, "402")])
def test_lost_answer_is_found_by_the_retry(
    card: str, words: str, ada: Customer, at_stripe: Callable[[], list[int]]
) -> None:
    key = new_key()
    Losing.losses = 2

    assert [ada.pay(key, card) for _ in range(3)] == ["500", "500", words]
    assert at_stripe() == ([1, 0] if card == GOOD else [0, 1])
    assert Order.objects.count() == (1 if card == GOOD else 0)


def test_lost_answer_holds_where_a_person_shall_decide(
    ada: Customer, shop: Shop, stage: Stage, ledger: Ledger
) -> None:
    shop(stage.gateway_url, views=VIEWS.replace(CALL, _indented(HOLDING)))
    before = ledger.now()
    key = new_key()
    Losing.losses = 1

    assert [ada.pay(key) for _ in range(2)] == ["500", "409 outcome-unknown"]
    assert (ledger.now() - before).charges == 1
    declined = new_key()
    assert [ada.pay(declined, DECLINED) for _ in range(2)] == ["402", "402 replayed"]


def _indented(block: str) -> str:
    return block.replace("\n", "\n        ").rstrip() + "\n"


# The table: which error the client makes of which answer


class Answering(BaseHTTPRequestHandler):
    """Answers whatever it is told, in Stripe's form."""

    status = 200

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status = type(self).status
        body = json.dumps({"error": {"type": type(self).kind, "message": "No."}})
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    kind = "api_error"

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def answering() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _cases() -> Iterator[Any]:
    for answer, raised, outcome in ROWS:
        for status in re.findall(r"\d+", answer):
            yield pytest.param(int(status), raised, outcome, id=f"{status} {raised}")


def test_table_has_a_row_for_each_error_of_a_payment() -> None:
    assert {raised for _, raised, _ in ROWS} == {
        "APIError",
        "AuthenticationError",
        "CardError",
        "IdempotencyError",
        "InvalidRequestError",
        "PermissionError",
        "RateLimitError",
    }


@pytest.fixture
def raised_by_the_client(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    seen: set[str] = set()
    original = stripe.StripeError.__init__

    def noted(self: stripe.StripeError, *args: Any, **kwargs: Any) -> None:
        seen.add(type(self).__name__)
        original(self, *args, **kwargs)

    monkeypatch.setattr(stripe.StripeError, "__init__", noted)
    return seen


@pytest.mark.parametrize(("status", "raised", "outcome"), list(_cases()))
def test_client_raises_what_the_table_says(
    status: int,
    raised: str,
    outcome: str,
    ada: Customer,
    shop: Shop,
    answering: str,
    raised_by_the_client: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = "idempotency_error" if raised == "IdempotencyError" else "api_error"
    monkeypatch.setattr(Answering, "status", status)
    monkeypatch.setattr(Answering, "kind", kind)
    shop(answering)
    key = new_key()

    words = [ada.pay(key) for _ in range(2)]

    assert raised_by_the_client == {raised}
    if outcome.startswith("declined"):
        assert words == ["402", "402 replayed"]
    else:
        assert words == ["500", "500"]
        assert is_unknown(key)


def test_no_connection_leaves_the_outcome_unknown(
    ada: Customer, shop: Shop, raised_by_the_client: set[str]
) -> None:
    shop(f"http://127.0.0.1:{free_port()}")
    key = new_key()

    assert ada.pay(key) == "500"
    assert raised_by_the_client == {"APIConnectionError"}
    assert is_unknown(key)


def is_unknown(key: str) -> bool:
    """Whether the retry will make the call again."""
    (step,) = IdempotencyRecord.objects.get(key=key).effects["steps"]
    return not step["done"]
