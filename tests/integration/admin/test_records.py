"""The admin of the records, plain and, by `test_unfold`, under django-unfold."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils.timezone import now

from django_idempotency.admin.filters import MOST_COUNTED
from django_idempotency.core.operations import Scope, record_id_of
from django_idempotency.models import IdempotencyRecord
from django_idempotency.stories.masking import MASK
from tests.factories import IdempotencyRecordFactory, UserFactory
from tests.support.cases import cases
from tests.support.ordering import GUEST_KEY, JSON
from tests.support.staff import colleague

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as ClientResponse

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

urlpatterns = [path("admin/", admin.site.urls)]

LIST = "/admin/django_idempotency/idempotencyrecord/"
TABLE = "django_idempotency_idempotencyrecord"
LINK = re.compile(rf'href="{LIST}([0-9a-f-]{{36}})/change/')


def record(
    key: str = "order-1",
    *,
    principal: str = "shop.User:7",
    method: str = "POST",
    **fields: Any,
) -> IdempotencyRecord:
    scope = Scope(principal=principal, method=method, path="/checkout/")
    return IdempotencyRecordFactory.create(
        user=UserFactory.build(pk=7),
        **{
            "id": record_id_of(scope, key),
            "scope": str(scope),
            "key": key,
            "method": method,
            "path": scope.path,
            "fingerprint": "1:abc",
            "response_headers": [["Content-Type", JSON], ["Location", "/orders/1/"]],
            "response_body": b'{"order": 1, "lines": [{"sku": "T\xc3\xa9e"}]}',
            **fields,
        },
    )


def shown(response: ClientResponse) -> str:
    assert response.status_code == 200, response.status_code
    return response.content.decode()


def detail(of: IdempotencyRecord, admin_client: Client) -> str:
    return shown(admin_client.get(f"{LIST}{of.pk}/change/"))


def rows(response: ClientResponse) -> set[str]:
    """The ids of the records in a list."""
    return set(LINK.findall(shown(response)))


def ids(*records: IdempotencyRecord) -> set[str]:
    return {str(each.pk) for each in records}


# The list

METHODS = {"DELETE", "PATCH", "POST", "PUT", "TASK"}


def test_list_shows_lives_of_records_and_cuts_paths(admin_client: Client) -> None:
    def text() -> str:
        return re.sub(r"<[^>]*>|\s+", " ", shown(admin_client.get(LIST)))

    record(attempts=3, replays=17)
    assert re.search(r" POST /checkout/\s+kept\s+201\s+3\s+17 ", text())

    IdempotencyRecord.objects.update(path="/" + "x" * 3000)
    assert max(map(len, re.findall(r"x+…?", text()))) < 40


@pytest.mark.parametrize("state", ["in_flight", "kept", "released", "held"])
def test_list_is_filtered_by_state(state: str, admin_client: Client) -> None:
    since = now() if state == "held" else None
    wanted = record("1", state=state, held_since=since)
    record("2", state="kept" if state == "released" else "released")

    assert rows(admin_client.get(f"{LIST}?state__exact={state}")) == ids(wanted)


@pytest.mark.parametrize(
    ("query", "wanted", "other"),
    [
        ("method=DELETE", {"method": "DELETE"}, {"method": "POST"}),
        ("expires_at__gte={since}", {}, {"expires_at": now() - timedelta(days=3)}),
    ],
    ids=["method", "expiry"],
)
def test_list_is_filtered(
    query: str, wanted: Any, other: Any, admin_client: Client
) -> None:
    found = record("1", **wanted)
    record("2", **other)
    since = quote((now() - timedelta(hours=1)).isoformat())

    assert rows(admin_client.get(f"{LIST}?{query.format(since=since)}")) == ids(found)


def test_methods_to_filter_by_are_not_asked_of_the_table(admin_client: Client) -> None:
    page = shown(admin_client.get(LIST))

    assert set(re.findall(r"\?method=(\w+)", page)) == METHODS


def test_list_begins_with_what_expires_last(admin_client: Client) -> None:
    made = [
        record(str(hours), expires_at=now() + timedelta(hours=hours))
        for hours in (2, 1, 3)
    ]
    order = sorted(made, key=lambda each: each.expires_at, reverse=True)

    assert LINK.findall(shown(admin_client.get(LIST))) == [
        str(each.pk) for each in order
    ]


def queries_of(client: Client, url: str) -> list[str]:
    """The statements on the table of records, as they were sent."""
    with CaptureQueriesContext(connection) as captured:
        client.get(url)
    return [each["sql"] for each in captured.captured_queries if TABLE in each["sql"]]


def test_list_reads_no_bodies(admin_client: Client) -> None:
    """A page of a hundred answers of a megabyte each would be slow to open."""
    record()

    assert not [sql for sql in queries_of(admin_client, LIST) if "response_body" in sql]


def test_list_counts_no_further_than_its_bound(admin_client: Client) -> None:
    """Nor do facets, which would count everything."""
    record()
    queries = queries_of(admin_client, LIST) + queries_of(
        admin_client, f"{LIST}?_facets=1"
    )
    counts = [sql for sql in queries if "COUNT(" in sql]

    assert counts
    assert all(f"LIMIT {MOST_COUNTED}" in sql for sql in counts)


def test_list_takes_as_many_statements_for_many_records(admin_client: Client) -> None:
    record()
    one = len(queries_of(admin_client, LIST))
    for number in range(20):
        record(str(number))

    assert len(queries_of(admin_client, LIST)) == one


# One record

PRE = '<pre class="idempotency-record">'
HEADERS = f"{PRE}Content-Type: application/json\nLocation: /orders/1/</pre>"
PRETTY = (
    "{\n  &quot;order&quot;: 1,\n  &quot;lines&quot;: [\n    {\n"
    "      &quot;sku&quot;: &quot;Tée&quot;\n    }\n  ]\n}"
)
EXACT = json.dumps({"amount": 10**20, "note": "ß"}).encode()


def test_record_shows_its_headers_key_and_body(admin_client: Client) -> None:
    page = detail(record(), admin_client)

    assert HEADERS in page
    assert "order-1" in page
    assert PRETTY in page
    assert "django_idempotency/admin.css" in page  # breaks long lines


@cases(
    "body, said",
    {
        "text": (b"Thank you,\nAnn", f"{PRE}Thank you,\nAnn</pre>"),
        "no text": (b"\xff\xd8\xff\xe0", "4 bytes that aren&#x27;t text"),
        "not kept": (None, "Not kept."),
        "html": (b"<script>steal()</script>", "&lt;script&gt;steal()"),
        # Numbers are not rounded and letters not respelt by printing them prettily.
        "numbers": (EXACT, "100000000000000000000"),
        "letters": (EXACT, "ß"),
    },
)
def test_body_is_shown_as_the_first_client_got_it(
    body: bytes | None, said: str, admin_client: Client
) -> None:
    page = detail(record(response_body=body), admin_client)

    assert said in page
    assert "<script>steal()" not in page


HOSTILE = "<script>steal()</script>"


@pytest.mark.parametrize(
    "fields",
    [
        {"path": f"/{HOSTILE}"},
        {"scope": f"shop.User:7|POST|/{HOSTILE}"},
        {"key": HOSTILE},
        {"last_error": HOSTILE},
        {"response_headers": [["X-Note", HOSTILE], [HOSTILE, "x"]]},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_html_in_records_is_escaped(
    fields: dict[str, Any], admin_client: Client
) -> None:
    hostile = record("harmless")
    IdempotencyRecord.objects.update(**fields)
    pages = detail(hostile, admin_client) + shown(admin_client.get(LIST))

    assert HOSTILE not in pages


@pytest.mark.parametrize("principal", ["anonymous", "tenant:1|anonymous"])
def test_key_of_a_guest_is_masked(principal: str, admin_client: Client) -> None:
    """FR-064: it is a bearer secret."""
    page = detail(record(GUEST_KEY, principal=principal), admin_client)

    assert (f"{GUEST_KEY[:4]}{MASK}" in page, GUEST_KEY in page) == (True, False)


@pytest.mark.parametrize(
    "name",
    ["Set-Cookie", "Authorization", "X-Api-Key", "X-CSRF-Token", "X-Webhook-Signature"],
)
def test_sensitive_header_is_masked(name: str, admin_client: Client) -> None:
    page = detail(record(response_headers=[[name, "s3cr3t"]]), admin_client)

    assert (f"{name}: {MASK}" in page, "s3cr3t" in page) == (True, False)


HALVES = [{"deep": ["\ud800"]}, {"id": "\udfff"}, "\ud83d"]


def step(result: Any) -> dict[str, Any]:
    name = f"step {HALVES.index(result)}"
    return {"name": name, "kind": "call", "done": True, "result": result}


@cases(
    "columns",
    {
        "without an answer": {
            "state": "released",
            "response_status": None,
            "response_headers": None,
            "response_body": None,
            "completed_at": None,
        },
        # It is the record that somebody has come to look at.
        "FR-017 headers that can't be read": {"response_headers": {"Location": "/"}},
        # JSON may hold what no page can: whoever is answered with it may have sent it.
        "body with half a surrogate pair": {"response_body": b'{"a": "\\ud800"}'},
        "result with half a surrogate pair": {
            "effects": {"steps": [step(each) for each in HALVES]}
        },
    },
)
def test_odd_record_can_be_looked_at(columns: Any, admin_client: Client) -> None:
    page = detail(record(last_error="builtins.ValueError", **columns), admin_client)

    assert "builtins.ValueError" in page


@pytest.mark.parametrize("url", ["add/", "{pk}/change/"])
def test_nothing_can_be_added_or_changed(url: str, admin_client: Client) -> None:
    before = record()
    url = f"{LIST}{url.format(pk=before.pk)}"
    response = admin_client.post(url, {"state": "released", "key": "another"})

    assert response.status_code == 403
    assert IdempotencyRecord.objects.get().state == "kept"


def test_page_of_a_record_has_nothing_to_fill_in(admin_client: Client) -> None:
    page = detail(record(), admin_client)
    story = page[page.index('class="idempotency-story"') :]
    main = story.partition('class="idempotency-tools"')[0]

    assert (
        re.findall(r"<(?:textarea|select|input|form|script|style)|style=", main) == []
    )


def test_viewer_may_look_and_is_offered_no_record_to_add(admin_client: Client) -> None:
    wanted = record()

    assert rows(colleague("view").get(LIST)) == ids(wanted)
    assert f"{LIST}add/" not in shown(admin_client.get(LIST))


@pytest.mark.parametrize("permissions", [(), ("add",), ("delete",)])
def test_nobody_looks_without_the_permission(permissions: tuple[str, ...]) -> None:
    status = colleague(*permissions).get(LIST).status_code

    # Who may only delete isn't shown the list either.
    assert status == 403


def deleted(client: Client, kept: IdempotencyRecord) -> ClientResponse:
    """Delete it on its own page."""
    return client.post(f"{LIST}{kept.pk}/delete/", {"post": "yes"})


def bulk_deleted(client: Client, kept: IdempotencyRecord) -> ClientResponse:
    return client.post(
        LIST,
        {"action": "delete_selected", "_selected_action": str(kept.pk), "post": "yes"},
    )


each_deletion = pytest.mark.parametrize("delete", [deleted, bulk_deleted])


@pytest.mark.parametrize("permissions", [("view",), ("view", "add", "change")])
@each_deletion
def test_nobody_deletes_without_the_permission(
    delete: Any, permissions: tuple[str, ...]
) -> None:
    delete(colleague(*permissions), record())

    assert IdempotencyRecord.objects.count() == 1


@each_deletion
def test_record_is_deleted_with_the_permission_once_asked_twice(delete: Any) -> None:
    client, kept = colleague("view", "delete"), record()
    page = shown(client.get(f"{LIST}{kept.pk}/delete/"))
    assert ("Are you sure" in page, IdempotencyRecord.objects.count()) == (True, 1)
    delete(client, kept)

    assert IdempotencyRecord.objects.count() == 0


def test_log_of_a_deletion_names_no_key_and_history_is_there() -> None:
    client, kept = colleague("view", "delete"), record()
    deleted(client, record(GUEST_KEY, principal="anonymous"))
    (entry,) = admin.models.LogEntry.objects.all()

    assert entry.object_repr == "POST /checkout/ (kept)"
    assert client.get(f"{LIST}{kept.pk}/history/").status_code == 200
