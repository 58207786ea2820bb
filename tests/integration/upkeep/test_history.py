"""What a record tells people afterwards: what happened when, and what it was about."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client
from django.urls import path
from django.utils import timezone

from django_idempotency import signals
from django_idempotency.core.history import MOST_NOTES
from django_idempotency.core.keys import derive_key
from django_idempotency.decorators import idempotent
from django_idempotency.engine.idempotency import Idempotency, current_operation
from django_idempotency.models import (
    IdempotencyRecord,
    OperationLink,
    ProcessedEvent,
)
from django_idempotency.store import links
from django_idempotency.webhooks import Event, providers, webhook
from tests.support.deliveries import SECRET, deliver, stripe
from tests.support.ordering import forgiving_client, send, word
from tests.support.records import change, expire, record
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

LEASE = timedelta(minutes=1)
deeds: list[Callable[[Any], Any]] = []
"""What the view does, one for each time that it runs; else it places an order."""


def answer(request: HttpRequest) -> HttpResponse:
    response = deeds.pop(0)(request) if deeds else None
    return response or JsonResponse({"order": Order.objects.create().pk}, status=201)


def handle(event: Event) -> None:
    deeds.pop(0)(event)


urlpatterns = [
    path("atomic/", idempotent(answer)),
    path("leased/", idempotent(lease=LEASE, wait=timedelta(0))(answer)),
    path(
        "event/",
        webhook(providers.STRIPE, secrets=SECRET, endpoint="history")(handle),
    ),
]
each_shape = pytest.mark.parametrize("url", ["/atomic/", "/leased/"])


@pytest.fixture(autouse=True)
def client() -> Client:
    deeds.clear()
    return forgiving_client()


def history() -> list[str]:
    return [note["what"] for note in record().history]


def fail(request: HttpRequest) -> HttpResponse:
    raise TimeoutError


def charge_in_vain(request: Any) -> HttpResponse:
    request.idempotency.call("charge", fail, if_unknown="hold", reference="cart-117")
    raise AssertionError("unreachable")


@each_shape
def test_each_thing_that_happens_is_noted_in_its_order(
    url: str, client: Client
) -> None:
    deeds.append(fail)
    answers = [word(send(client, url, body)) for body in ("{}", "{}", "{}", '{"a":1}')]

    assert answers == ["500", "201", "201 replayed", "422 key-reused"]
    began = [] if url == "/atomic/" else ["claimed"]  # else it was rolled back
    assert history() == [*began, "released", "claimed", "replayed", "mismatched"]
    ended = next(note for note in record().history if note["what"] == "released")
    assert ended["error"] == "builtins.TimeoutError"
    times = [datetime.fromisoformat(note["at"]) for note in record().history]
    assert times == sorted(times)
    assert datetime.now(UTC) - times[0] < timedelta(minutes=1)


@each_shape
def test_claim_says_where_it_was_made_and_under_which_id(
    url: str, client: Client
) -> None:
    send(client, url, X_Request_Id="7f2c")
    (note,) = record().history

    assert note["request"] == "7f2c"
    host, _, process = note["by"].rpartition(":")
    assert (host != "", process.isdigit()) == (True, True)


@pytest.mark.parametrize("trace", ["x" * 1000, "a\tb", "schön"])
def test_id_of_a_request_is_noted_only_if_it_is_one(trace: str, client: Client) -> None:
    send(client, "/atomic/", HTTP_X_REQUEST_ID=trace, X_Request_Id=trace)

    assert len(record().history[0].get("request", "")) <= 64
    assert record().history[0].get("request", "").isascii()


def test_many_repeats_leave_the_beginning_and_the_end(client: Client) -> None:
    for _ in range(MOST_NOTES + 5):
        send(client, "/atomic/")
    send(client, "/atomic/", '{"a":1}')

    assert len(history()) == MOST_NOTES
    assert (history()[0], history()[-1]) == ("claimed", "mismatched")
    assert record().replays == MOST_NOTES + 4


def test_new_life_has_a_history_of_its_own(client: Client) -> None:
    send(client, "/atomic/")
    send(client, "/atomic/")
    expire()
    send(client, "/atomic/")

    assert history() == ["claimed"]


def test_story_of_an_operation_that_was_held_and_settled(client: Client) -> None:
    heard: list[Any] = []

    def hear(**told: Any) -> None:
        heard.append(told)

    signals.held.connect(hear)
    signals.settled.connect(hear)
    deeds.append(charge_in_vain)
    send(client, "/leased/")
    held = record()
    send(client, "/leased/")
    held.settle(applied=False, reason="not in the list", by="ann")
    send(client, "/leased/")

    told = ["claimed", "held", "refused", "settled", "claimed"]
    assert history() == told
    assert (held.held_since, record().held_since) == (None, None)
    (step,) = held.history[1:2]
    assert step["error"] == "builtins.TimeoutError"
    settled = record().history[3]
    assert (settled["by"], settled["applied"], settled["reason"]) == (
        ("ann", False, "not in the list")
    )
    # When its view ended, when it was asked for again, and when it was decided.
    assert len(heard) == 3
    assert heard[-1]["record"].pk == held.pk
    assert (heard[-1]["by"], heard[-1]["applied"]) == ("ann", False)


def test_held_since_says_what_waits(client: Client) -> None:
    deeds.append(charge_in_vain)
    before = timezone.now() - timedelta(seconds=2)
    send(client, "/leased/")
    since = record().held_since
    send(client, "/leased/")

    assert since is not None
    assert before < since < timezone.now() + timedelta(seconds=2)
    assert record().held_since == since


def test_lost_operation_is_held_from_the_moment_somebody_meets_it(
    client: Client,
) -> None:
    send(client, "/atomic/")
    change(state="in_flight", response_status=None, completed_at=None)

    assert word(send(client, "/atomic/")) == "409 outcome-unknown"
    assert (record().state, record().held_since is None) == ("held", False)
    assert history() == ["claimed", "refused"]


def test_live_lease_is_not_held(client: Client) -> None:
    send(client, "/leased/")
    ahead = timezone.now() + timedelta(hours=1)
    change(state="in_flight", response_status=None, lease_expires_at=ahead)

    assert word(send(client, "/leased/")) == "409 in-flight"
    assert (record().state, record().held_since) == ("in_flight", None)
    assert history() == ["claimed", "in_flight"]


# What it is about


def found_by(value: str) -> list[Any]:
    return links.rows_with(value, using="default")


def buy(request: Any) -> None:
    order = Order.objects.create()
    request.idempotency.about(order, amount="46.82 EUR")
    request.idempotency.about("cart-117", label="Cart 117")
    request.idempotency.call("charge", lambda key: key, reference="ref-1")


@each_shape
def test_operation_is_found_by_what_it_is_about(url: str, client: Client) -> None:
    deeds.append(buy)
    send(client, url)
    order = Order.objects.first()
    assert order is not None

    key = derive_key(record().pk, "charge")
    for value in (f"testapp.order:{order.pk}", "cart-117", "ref-1", key):
        assert found_by(value) == [record().pk], value
    told = {each.value: each for each in links.of_row(record().pk, using="default")}
    about = told[f"testapp.order:{order.pk}"]
    assert (about.amount, about.label) == ("46.82 EUR", str(order))
    assert told[key].label == "charge"
    assert IdempotencyRecord.objects.count() == 1


def test_event_is_found_by_what_its_handler_says() -> None:
    def handle_it(event: Any) -> None:
        current_operation().about("order-7", amount="1 EUR")
        assert current_operation().key_for("mail") == event.key_for("mail")
        event.key_for("refund")

    deeds.append(handle_it)
    deliver("/event/", stripe("evt_1"))
    row = ProcessedEvent.objects.get()

    assert found_by("order-7") == [row.pk]
    for label in ("mail", "refund"):
        assert found_by(derive_key(row.pk, label)) == [row.pk], label
    assert row.object_key != ""


@each_shape
def test_what_was_rolled_back_is_found_by_nothing(url: str, client: Client) -> None:
    def buy_in_vain(request: Any) -> None:
        request.idempotency.about("cart-117")
        raise TimeoutError

    deeds.append(buy_in_vain)
    send(client, url)

    assert found_by("cart-117") == []


def test_without_links_nothing_is_written_for_them(client: Client) -> None:
    send(client, "/atomic/")
    with connection.execute_wrapper(_refusing_links):
        assert word(send(client, "/atomic/", key="L")) == "201"


def test_link_of_a_call_is_written_when_it_begins_and_not_again(
    client: Client,
) -> None:
    written: list[str] = []

    def noting(execute: Any, sql: str, *rest: Any) -> Any:
        if OperationLink._meta.db_table in sql:
            written.append(sql)
        return execute(sql, *rest)

    deeds.append(buy)
    with connection.execute_wrapper(noting):
        assert word(send(client, "/leased/")) == "201"

    assert len(written) == 1


def _refusing_links(execute: Any, sql: str, *rest: Any) -> Any:
    assert OperationLink._meta.db_table not in sql
    return execute(sql, *rest)


@pytest.mark.parametrize("subject", ["", "  ", Order()], ids=["empty", "blank", "new"])
def test_subject_that_nobody_could_find_is_refused(
    subject: Any, client: Client
) -> None:
    deeds.append(lambda request: request.idempotency.about(subject))

    assert word(send(client, "/atomic/")) == "500"


def test_without_a_key_there_is_nothing_to_find() -> None:
    Idempotency().about("cart-117")
    assert OperationLink.objects.count() == 0


def test_links_go_with_the_purge_after_their_rows(client: Client) -> None:
    deeds.append(buy)
    send(client, "/atomic/")
    past = timezone.now() - timedelta(hours=1)
    OperationLink.objects.update(expires_at=past)

    call_command("purge_idempotency_keys", stdout=nowhere())
    assert OperationLink.objects.count() == 4  # the record is there
    expire()
    call_command("purge_idempotency_keys", stdout=nowhere())
    assert OperationLink.objects.count() == 0


def nowhere() -> io.StringIO:
    return io.StringIO()


# The reference


@each_shape
def test_each_answer_carries_the_reference_of_its_operation(
    url: str, client: Client
) -> None:
    answers = [send(client, url, body) for body in ("{}", "{}", '{"a":1}')]

    reference = record().reference
    assert [each.headers["Idempotency-Reference"] for each in answers] == (
        [reference] * 3
    )
    assert json.loads(answers[2].content)["reference"] == reference
    assert record().pk.hex.upper().startswith(reference.replace("-", ""))
    stored = json.dumps(record().response_headers)
    assert "Idempotency-Reference" not in stored


def test_page_of_a_problem_says_the_reference(client: Client) -> None:
    form = "application/x-www-form-urlencoded"
    answers = [
        client.post(
            "/atomic/",
            f"Idempotency-Key=K&amount={amount}",
            content_type=form,
            headers={"accept": "text/html", "Idempotency-Key": "K"},
        )
        for amount in (1, 2)
    ]

    assert record().reference in answers[1].content.decode()


def test_request_without_a_key_has_no_reference(client: Client) -> None:
    response = send(client, "/atomic/", key=None)

    assert "Idempotency-Reference" not in response.headers


# Where it can't be written


@pytest.mark.parametrize("is_counted", [True, False])
def test_copies_are_noted_unless_the_project_wants_no_writes(
    is_counted: bool, client: Client, settings: Any
) -> None:
    settings.IDEMPOTENCY_COUNT_REPLAYS = is_counted
    for body in ("{}", "{}", '{"a":1}'):
        send(client, "/atomic/", body)

    noted = ["replayed", "mismatched"] if is_counted else []
    assert history() == ["claimed", *noted]


def test_note_that_can_not_be_written_fails_nobody(client: Client) -> None:
    send(client, "/atomic/")

    def refuse(execute: Any, sql: str, *rest: Any) -> Any:
        if "replays + 1" in sql:
            raise OperationalError("away")
        return execute(sql, *rest)

    with connection.execute_wrapper(refuse):
        assert word(send(client, "/atomic/")) == "201 replayed"
    assert history() == ["claimed"]


def test_settling_a_long_history_keeps_its_beginning(client: Client) -> None:
    deeds.append(charge_in_vain)
    send(client, "/leased/")
    for _ in range(MOST_NOTES):
        send(client, "/leased/")
    record().settle(applied=False, reason="not in the list", by="ann")

    assert len(history()) == MOST_NOTES
    assert (history()[0], history()[-1]) == ("claimed", "settled")


def test_record_that_is_gone_is_not_settled(client: Client) -> None:
    deeds.append(charge_in_vain)
    send(client, "/leased/")
    held = record()
    IdempotencyRecord.objects.all().delete()

    with pytest.raises(ValueError, match="The record is gone"):
        held.settle(applied=False, reason="not in the list")
    assert str(OperationLink(label="Cart 117", value="cart-117")) == "Cart 117"
    assert str(OperationLink(value="cart-117")) == "cart-117"
