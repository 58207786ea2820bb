"""What a page says that a row belongs to, and to whom it links what."""

from __future__ import annotations

from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import path

from django_idempotency.core.links import Link, LinkKind
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.store import links
from django_idempotency.stories.masking import MASK
from tests.factories import (
    IdempotencyRecordFactory,
    ProcessedEventFactory,
    UserFactory,
)
from tests.support.cases import cases
from tests.support.staff import colleague

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

urlpatterns = [path("admin/", admin.site.urls)]

BASE = "/admin/django_idempotency/"


@pytest.fixture
def staff() -> Client:
    client = Client()
    client.force_login(UserFactory.create(is_staff=True, is_superuser=True))
    return client


def story(client: Client, row: Any) -> str:
    url = f"{BASE}{row._meta.model_name}/{row.pk}/change/"
    return unescape(client.get(url).content.decode())


def linked(row: Any, kind: LinkKind, value: str, **more: str) -> None:
    link = Link(kind=kind, value=value, **more)
    links.add([link], row.pk, retention=timedelta(days=1), using="default")


def payment(**columns: Any) -> IdempotencyRecord:
    made: IdempotencyRecord = IdempotencyRecordFactory.create(**columns)
    return made


def is_linked(page: str, row: Any) -> bool:
    meta = row._meta
    return f"/admin/{meta.app_label}/{meta.model_name}/{row.pk}/change/" in page


def test_objects_and_customer_are_linked_as_far_as_one_may_look(staff: Client) -> None:
    ada = UserFactory.create(username="ada")
    record = payment(user=ada)
    linked(record, LinkKind.OBJECT, f"auth.user:{ada.pk}", label="Ada's cart")
    few, many = story(colleague("view"), record), story(staff, record)

    assert (is_linked(few, ada), is_linked(many, ada)) == (False, True)
    # What a user is called is told to who may look at users.
    assert ("Ada's cart" in few, "Ada's cart" in many) == (False, True)
    assert "Customer</dt>\n<dd><a" in many


@cases(
    "principal, value",
    {
        "gone": ("auth.User:999", "auth.user:999"),
        "no key": ("auth.User:ada", "auth.user:ada"),
        "not registered": ("sessions.Session:1", "sessions.session:1"),
        "no such model": ("shop.Nothing:1", "shop.nothing:1"),
        "no model": ("tenant:4|user:2", "order 7"),
        "markup": ("<b>x</b>", "<b>x</b>"),
    },
)
def test_what_is_not_there_is_named_as_it_is(
    principal: str, value: str, staff: Client
) -> None:
    record = payment(scope=f"{principal}|POST|/")
    linked(record, LinkKind.OBJECT, value)
    page = story(staff, record)

    assert principal in page
    assert value in page


EVENTS: dict[str, tuple[Any, dict[str, str]]] = {
    "reference": ((LinkKind.REFERENCE, "pi_1"), {"object_key": "pi_1"}),
    "its word": ((LinkKind.WORD, "evt_1"), {"event_id": "evt_1"}),
    "result": (None, {"object_key": "ch_1"}),
}


@pytest.mark.parametrize("name", EVENTS)
def test_events_of_an_operation_are_linked_both_ways(name: str, staff: Client) -> None:
    link, columns = EVENTS[name]
    step = {"name": "charge", "kind": "call", "done": True, "result": {"id": "ch_1"}}
    record = payment(effects={"steps": [step]})
    if link:
        linked(record, *link)
    event = ProcessedEventFactory.create(**columns)
    other = ProcessedEventFactory.create(event_id="evt_other", object_key="pi_other")
    page = story(staff, record)

    assert (is_linked(page, event), is_linked(page, other)) == (True, False)
    # From the event the id in a step's result is found by no index.
    assert is_linked(story(staff, event), record) is (link is not None)
    assert not is_linked(story(colleague("view"), record), event)


def test_rows_about_the_same_are_linked(staff: Client) -> None:
    first, second = payment(), payment()
    event = ProcessedEventFactory.create()
    for row in (first, second, event):
        linked(row, LinkKind.OBJECT, "order 7")

    assert is_linked(story(staff, first), second)
    assert is_linked(story(staff, first), event)
    assert is_linked(story(staff, event), first)


def test_secrets_in_answers_steps_and_payloads_are_masked(staff: Client) -> None:
    secret = {"client_secret": "s3cr3t", "note": "seen"}
    hidden = {**secret, "card": {"cvc": "s3cr3t"}}
    step = {"name": "charge", "kind": "call", "done": True, "result": hidden}
    record = payment(answer=hidden, effects={"steps": [step]})
    event = ProcessedEventFactory.create(ignored=True, body=b'{"token": "s3cr3t"}')
    pages = story(staff, record) + story(staff, event)

    assert "s3cr3t" not in pages
    assert pages.count(MASK) >= 3
    assert "seen" in pages


@pytest.mark.parametrize("model", [IdempotencyRecord, ProcessedEvent])
@pytest.mark.parametrize("pk", ["nonsense", "00000000-0000-0000-0000-000000000007"])
def test_page_of_nothing_leads_back(model: Any, pk: str, staff: Client) -> None:
    answer = staff.get(f"{BASE}{model._meta.model_name}/{pk}/change/", follow=True)

    assert "doesn" in answer.content.decode()
