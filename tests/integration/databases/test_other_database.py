"""Records, replicas and work in another database than the default one."""

import io
from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.core.management import call_command
from django.db import connections
from django.db import router as django_router
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from django.utils.text import capfirst
from pytest_django import DjangoDbBlocker
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.testing.factories import IdempotencyRecordFactory
from tests.factories import ProcessedEventFactory
from tests.support.client import call, new_key, post
from tests.support.databases import Routes, copy_of_the_default
from tests.support.ordering import ONCE
from tests.support.pages import Names, block, run
from tests.support.staff import Form, colleague
from tests.support.threads import TIMEOUT, crew, start
from tests.testapp.models import Order

ALIASES = ("default", "other")
OURS = frozenset({"django_idempotency"})

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.direct,
    pytest.mark.django_db(transaction=True, databases=ALIASES),
    pytest.mark.urls(__name__),
]


@pytest.fixture(autouse=True, scope="module")
def _other(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A database under the alias ``other``, known before the first test begins."""
    with django_db_blocker.unblock(), copy_of_the_default("other"):
        yield


def order(request: HttpRequest) -> HttpResponse:
    Order.objects.create()
    return HttpResponse(status=201)


def orders() -> tuple[int, int]:
    return Order.objects.using("default").count(), Order.objects.using("other").count()


# Where the records are


def test_retry_is_replayed_although_the_replica_has_no_record() -> None:
    """FR-083."""
    key, view = new_key(), idempotent(order)
    with Routes.sending(read="other", write="default", apps=OURS):
        words = [call(view, key).word for _ in range(2)]

    assert (words, orders()) == (ONCE, (1, 0))


def test_router_of_the_page_writes_record_and_order_at_home() -> None:
    """Two tenants with one key have an order each, each in its own region."""
    tenants, key, view = ["other", "default", "other"], new_key(), idempotent(order)
    home: list[str] = []
    names: Names = {"home_of": str, "current_tenant": lambda: home[-1]}
    router = run(block("explanation/regions", "class HomeRouter"), names)["HomeRouter"]
    words = []
    with override_settings(DATABASE_ROUTERS=[router()]):
        for tenant in tenants:
            home.append(tenant)
            words.append(call(view, key).word)
    django_router.__dict__.pop("routers", None)

    assert (words, orders()) == (["201", "201", "201 replayed"], (1, 1))


@pytest.mark.parametrize("found_in", ["other", "default"])
def test_held_operation_is_settled_where_it_is_written(found_in: str) -> None:
    """A person has found it in the replica."""
    held = IdempotencyRecordFactory.create(held=True)
    copy = IdempotencyRecord.objects.get()
    copy.save(using="other", force_insert=True)
    with Routes.sending(read="other", write="default", apps=OURS):
        found = IdempotencyRecord.objects.using(found_in).get(pk=held.pk)
        found.settle(applied=True, result="ch_17", reason="on the statement")

    states = [IdempotencyRecord.objects.using(each).get().state for each in ALIASES]
    assert (states, found.state) == (["released", "held"], "released")


def test_transaction_opens_on_the_alias_of_the_records() -> None:
    """FR-084: what is written there is replayed."""
    seen = []

    @idempotent
    def view(request: HttpRequest) -> HttpResponse:
        seen.append([connections[name].in_atomic_block for name in ALIASES])
        return order(request)

    key = new_key()
    with Routes.sending(read="other", write="other", apps=OURS):
        words = [call(view, key).word for _ in range(2)]

    assert (words, seen, orders()) == (ONCE, [[False, True]], (1, 0))


@pytest.mark.parametrize(
    ("apps", "left"),
    [
        pytest.param(None, (0, 0), id="beside the record"),
        # The reason for check W010; not a promise, but what there is to know.
        pytest.param(OURS, (1, 0), id="FR-084-in another database"),
    ],
)
def test_only_work_beside_the_record_is_rolled_back_with_it(
    apps: frozenset[str] | None, left: tuple[int, int]
) -> None:
    @idempotent
    def view(request: HttpRequest) -> HttpResponse:
        order(request)
        raise RuntimeError

    with (
        Routes.sending(read="other", write="other", apps=apps),
        pytest.raises(RuntimeError),
    ):
        call(view, new_key())

    assert orders() == left
    assert IdempotencyRecord.objects.using("other").get().state == "released"


def test_default_database_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """FR-084: a project whose default database is empty."""
    key, view = new_key(), idempotent(order)
    with (
        Routes.sending(read="other", write="other"),
        monkeypatch.context() as changed,
        crew() as threads,
    ):
        # A thread makes its own connections from the settings, and this one raises.
        changed.setitem(
            connections.settings["default"], "ENGINE", "django.db.backends.dummy"
        )
        words = [start(threads, call, view, key).result(TIMEOUT).word for _ in range(2)]

    assert words == ONCE


@pytest.mark.parametrize(
    ("arguments", "purged"),
    [
        (["--database", "default"], "default"),
        (["--database", "other"], "other"),
        ([], "other"),
    ],
    ids=["told-default", "told-other", "where-records-are-written"],
)
def test_purge_works_in_one_database(arguments: list[str], purged: str) -> None:
    for name in ALIASES:
        IdempotencyRecord.objects.using(name).create(
            id="00000000-0000-8000-8000-000000000000",
            state="released",
            created_at=Now(),
            expires_at=Now(),
        )
    with Routes.sending(read="default", write="other"):
        call_command("purge_idempotency_keys", *arguments, stdout=io.StringIO())

    left = {name: IdempotencyRecord.objects.using(name).count() for name in ALIASES}
    assert left == {"default": 1, "other": 1} | {purged: 0}


# ATOMIC_REQUESTS on two databases, and a view that writes to both

refusals: list[Exception] = []


def write_to_both() -> None:
    Order.objects.create()
    Order.objects.using("other").create()
    if refusals:
        raise refusals.pop()


@idempotent
def plain(request: HttpRequest) -> HttpResponse:
    write_to_both()
    return HttpResponse(status=201)


class Rest(IdempotencyMixin, APIView):
    def post(self, request: Request) -> Response:
        write_to_both()
        return Response(status=201)


urlpatterns = [
    path("plain/", plain),
    path("rest/", Rest.as_view()),
    path("admin/", admin.site.urls),
]


@pytest.mark.parametrize(
    ("url", "refusal", "word"),
    [("/rest/", ValidationError("no"), "400"), ("/plain/", RuntimeError("no"), "500")],
    ids=["FR-085-validation-error", "FR-085-crash"],
)
def test_refusal_leaves_nothing_in_either_database_and_a_retry_writes_to_both(
    url: str, refusal: Exception, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record follows its own database."""
    for name in ALIASES:
        monkeypatch.setitem(connections[name].settings_dict, "ATOMIC_REQUESTS", True)
    refusals.append(refusal)
    key = new_key()

    assert (post(url, key).word, orders()) == (word, (0, 0))
    assert not IdempotencyRecord.objects.filter(state="kept").exists()
    assert [post(url, key).word for _ in range(2)] == ONCE
    assert orders() == (1, 1)


def test_event_in_another_database_is_run_again_from_the_admin() -> None:
    """Its attempt is a transaction of its own there, after that of the form."""
    with Routes.sending(read="other", write="other", apps=OURS):
        event = ProcessedEventFactory.create(dead=True, endpoint="nobody's")
        client = colleague("view", "rerun", of="processedevent")
        url = "/admin/django_idempotency/processedevent/"
        told = Form.shown(client, url, "run_again", event).send(reason="mended")
        after = ProcessedEvent.objects.get()

    # There is no such receiver. The admin begins each message with a capital.
    assert capfirst(f"{event.pk}: dead") in told
    assert (after.attempts, len(after.reruns)) == (event.attempts + 1, 1)
