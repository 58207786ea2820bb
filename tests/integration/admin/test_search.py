"""One box finds a row by whatever people have of it: by an index, or it says why not."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path

from django_idempotency.core.keys import derive_key
from django_idempotency.core.links import Link, LinkKind
from django_idempotency.core.operations import Scope, record_id_of
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.store import links
from tests.factories import (
    IdempotencyRecordFactory,
    ProcessedEventFactory,
    UserFactory,
)
from tests.support.ordering import GUEST_KEY
from tests.support.staff import colleague

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

urlpatterns = [path("admin/", admin.site.urls)]

RECORDS = "/admin/django_idempotency/idempotencyrecord/"
EVENTS = "/admin/django_idempotency/processedevent/"
ROW = re.compile(r'href="/admin/django_idempotency/\w+/([0-9a-f-]{36})/change/')
KEY = "5f0c9b1e-8d3a-4b6e-9f00-0d2c3b1e5a77"


def linked(row: Any, **values: str) -> None:
    found_by = [
        Link(kind=LinkKind(kind), value=value, label="charge")
        for kind, value in values.items()
    ]
    links.add(found_by, row.pk, retention=timedelta(days=1), using="default")


@pytest.fixture
def payment() -> IdempotencyRecord:
    """Somebody's payment, among others."""
    made: IdempotencyRecord = IdempotencyRecordFactory.create(
        user=UserFactory.create(username="ada"), path="/checkout/", key=KEY
    )
    linked(made, object="shop.order:7", reference="pi_7", call=str(_derived(made)))
    for number in range(20):
        other = IdempotencyRecordFactory.create(user=UserFactory.create())
        linked(other, object=f"shop.order:{number + 100}", reference=f"pi_{number}00")
        ProcessedEventFactory.create(
            event_id=f"evt_{number}00", object_key=f"pi_{number}00"
        )
    return made


def _derived(record: IdempotencyRecord) -> str:
    return derive_key(record.pk, "charge")


@pytest.fixture
def event(payment: IdempotencyRecord) -> ProcessedEvent:
    made: ProcessedEvent = ProcessedEventFactory.create(
        event_id="evt_7", object_key="pi_7", account="acct"
    )
    return made


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(UserFactory.create(is_staff=True, is_superuser=True))
    return client


def found(client: Client, url: str, term: str) -> set[str]:
    page = client.get(url, {"q": term}).content.decode()
    return set(ROW.findall(page[page.index('id="changelist') :]))


OF_THE_RECORD = [
    " {0.pk} ",
    "{0.pk.hex}",
    "{0.reference}",
    "{1}",  # the reference in small letters, without its dash
    "{0.key}",
    "{0.scope} {0.key}",
    "shop.order:7",
    "Shop.Order:7",
    "pi_7",
    "{2}",  # the derived key
]
OF_THE_EVENT = ["{3.pk}", "evt_7", "stripe|stripe|acct|evt_7"]


def spelt(term: str, payment: IdempotencyRecord, event: ProcessedEvent) -> str:
    reference = payment.reference.replace("-", "").lower()
    return term.format(payment, reference, _derived(payment), event)


@pytest.mark.parametrize("term", OF_THE_RECORD + OF_THE_EVENT[1:])
def test_operation_is_found(
    payment: IdempotencyRecord, event: ProcessedEvent, staff: Client, term: str
) -> None:
    """Also by the events that came of it."""
    assert found(staff, RECORDS, spelt(term, payment, event)) == {str(payment.pk)}


@pytest.mark.parametrize("term", OF_THE_RECORD + OF_THE_EVENT)
def test_event_is_found(
    payment: IdempotencyRecord, event: ProcessedEvent, staff: Client, term: str
) -> None:
    """Also by the operation that it came of."""
    assert found(staff, EVENTS, spelt(term, payment, event)) == {str(event.pk)}


@pytest.mark.parametrize("principal", ["tenant:4|user:2", "anonymous", "a name"])
def test_scope_and_key_may_have_any_principal(principal: str, staff: Client) -> None:
    scope = f"{principal}|POST|/checkout/"
    search_for = f"{scope} {GUEST_KEY}"

    pk = record_id_of(
        Scope(principal=principal, method="POST", path="/checkout/"), GUEST_KEY
    )
    IdempotencyRecordFactory.create(id=pk, scope=scope, key=GUEST_KEY)

    assert found(staff, RECORDS, search_for) == {str(pk)}


@pytest.mark.parametrize("term", ["ada", "auth.User:{0.pk}"])
def test_customer_is_found_where_about_has_named_one(
    payment: IdempotencyRecord, staff: Client, term: str
) -> None:
    ada = User.objects.get(username="ada")
    told = staff.get(RECORDS, {"q": "ada"}).content.decode()
    assert "request.idempotency.about(request.user)" in told
    linked(payment, object=f"auth.user:{ada.pk}")

    assert found(staff, RECORDS, term.format(ada)) == {str(payment.pk)}
    # Whoever may not look at users isn't told that there is one of that name.
    assert found(colleague("view"), RECORDS, "ada") == set()
    assert (
        "is a customer"
        not in colleague("view").get(RECORDS, {"q": "ada"}).content.decode()
    )


@pytest.mark.parametrize(
    "term", ["order", "/checkout/", KEY[:20], "shop.User:7|POST|/checkout/", "%", "7"]
)
@pytest.mark.parametrize("url", [RECORDS, EVENTS])
def test_part_is_not_looked_for_and_a_sentence_says_why(
    payment: IdempotencyRecord, staff: Client, url: str, term: str
) -> None:
    page = unescape(staff.get(url, {"q": term}).content.decode())

    assert found(staff, url, term) == set()
    assert "no index could find them" in page


def test_what_is_in_the_other_list_is_linked(
    payment: IdempotencyRecord, staff: Client
) -> None:
    lonely = ProcessedEventFactory.create(event_id="evt_<lonely>")
    page = staff.get(RECORDS, {"q": "evt_<lonely>"}).content.decode()

    (link,) = re.findall(rf"{EVENTS}(\?q=[^'\"]+)", page)
    assert found(staff, EVENTS, "evt_<lonely>") == {str(lonely.pk)}
    assert "evt_%3Clonely%3E" in link
    assert EVENTS not in (
        colleague("view").get(RECORDS, {"q": "evt_<lonely>"}).content.decode()
    )


TABLES = re.compile(r"django_idempotency_\w+|auth_user\b")


@pytest.mark.postgresql
@pytest.mark.parametrize("url", [RECORDS, EVENTS])
@pytest.mark.parametrize(
    "term", [*OF_THE_RECORD, *OF_THE_EVENT, "ada", "nothing", str(uuid.UUID(int=7))]
)
def test_search_reads_no_table_through(
    payment: IdempotencyRecord,
    event: ProcessedEvent,
    staff: Client,
    url: str,
    term: str,
) -> None:
    with CaptureQueriesContext(connection) as captured:
        staff.get(url, {"q": spelt(term, payment, event)})
    statements = [
        each["sql"]
        for each in captured.captured_queries
        if TABLES.search(each["sql"]) and " WHERE " in each["sql"]
    ]
    plans = []
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for statement in statements:
            cursor.execute(f"EXPLAIN {statement}")
            plans.append("\n".join(line for (line,) in cursor.fetchall()))

    assert len(plans) > 4
    assert [plan for plan in plans if "Seq Scan" in plan] == []


def test_search_takes_a_few_statements_however_much_is_found(
    payment: IdempotencyRecord, staff: Client
) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as captured:
            staff.get(RECORDS, {"q": "shop.order:7"})
        return len(captured)

    few = count()
    for _ in range(10):
        linked(IdempotencyRecordFactory.create(), object="shop.order:7")

    assert few == count() <= 20


# One box for both lists


def test_one_that_is_found_is_opened(
    payment: IdempotencyRecord, event: ProcessedEvent, staff: Client
) -> None:
    for term, row in (
        (KEY, payment),
        (payment.reference, payment),
        ("evt_7", event),
    ):
        for url in (RECORDS, EVENTS):
            found_page = staff.get(f"{url}find/", {"q": term}, follow=True)
            ((address, _status),) = found_page.redirect_chain
            assert address == _page_of(row)
            assert found_page.status_code == 200


def _page_of(row: Any) -> str:
    base = RECORDS if isinstance(row, IdempotencyRecord) else EVENTS
    return f"{base}{row.pk}/change/"


def test_several_are_a_list_of_stories_newest_first(
    payment: IdempotencyRecord, event: ProcessedEvent, staff: Client
) -> None:
    page = staff.get(f"{RECORDS}find/", {"q": " pi_7 "}).content.decode()

    assert re.findall(r'<td><a href="([^"]*)">', page) == [
        _page_of(event),
        _page_of(payment),
    ]
    assert "2 are found" in page
    assert ">charge by ada</a>" in page
    # Who may not look at users, or at events, isn't told of them.
    few = colleague("view").get(f"{RECORDS}find/", {"q": "pi_7"}, follow=True)
    assert few.redirect_chain == [(_page_of(payment), 302)]
    assert "ada" not in few.content.decode()
    assert colleague("delete").get(f"{RECORDS}find/").status_code == 403


@pytest.mark.parametrize(
    ("term", "told"),
    [
        ("", "Enter what you have of it"),
        ("nothing", "no index could find them"),
        ("ada", "request.idempotency.about(request.user)"),
    ],
)
def test_nothing_is_found_and_a_sentence_says_why(
    payment: IdempotencyRecord, staff: Client, term: str, told: str
) -> None:
    page = unescape(staff.get(f"{EVENTS}find/", {"q": term}).content.decode())

    assert told in page
    assert "idempotency-found" not in page


def test_list_of_many_takes_as_many_statements_and_is_bounded(
    payment: IdempotencyRecord, staff: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def statements() -> int:
        with CaptureQueriesContext(connection) as captured:
            staff.get(f"{RECORDS}find/", {"q": "shop.order:7"})
        return len(captured)

    linked(IdempotencyRecordFactory.create(), object="shop.order:7")
    few = statements()
    for _ in range(5):
        linked(IdempotencyRecordFactory.create(), object="shop.order:7")
    many = statements()
    monkeypatch.setattr("django_idempotency.admin.find.MOST", 3)
    page = staff.get(f"{RECORDS}find/", {"q": "shop.order:7"}).content.decode()

    assert many == few
    assert "3 are found" in page
    assert "There may be more." in page
