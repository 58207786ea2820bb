"""The admin of the records, plain and, by `test_admin_unfold`, under django-unfold."""

from __future__ import annotations

import json
import re
import uuid
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

from django_idempotency.admin.read_only import MASK, MOST_COUNTED
from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations import Scope, record_id_of

from .ordering import GUEST_KEY
from .staff import colleague

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as ClientResponse

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

urlpatterns = [path("admin/", admin.site.urls)]

LIST = "/admin/django_idempotency/idempotencyrecord/"
TABLE = "django_idempotency_idempotencyrecord"


def record(
    key: str = "order-1", *, principal: str = "shop.User:7", **fields: Any
) -> IdempotencyRecord:
    method = fields.pop("method", "POST")
    scope = Scope(principal=principal, method=method, path="/checkout/")
    headers = [["Content-Type", "application/json"], ["Location", "/orders/1/"]]
    return IdempotencyRecord.objects.create(
        **{
            "id": record_id_of(scope, key),
            "scope": str(scope),
            "key": key,
            "method": method,
            "path": scope.path,
            "fingerprint": "1:abc",
            "state": "kept",
            "response_status": 201,
            "response_headers": headers,
            "response_body": b'{"order": 1, "lines": [{"sku": "T\xc3\xa9e"}]}',
            "attempts": 1,
            "created_at": now(),
            "completed_at": now(),
            "expires_at": now() + timedelta(hours=48),
            **fields,
        }
    )


def shown(response: ClientResponse) -> str:
    assert response.status_code == 200, response.status_code
    return response.content.decode()


def detail(of: IdempotencyRecord, admin_client: Client) -> str:
    return shown(admin_client.get(f"{LIST}{of.pk}/change/"))


def rows(response: ClientResponse) -> set[str]:
    """The ids of the records in a list."""
    return set(re.findall(rf'href="{LIST}([0-9a-f-]{{36}})/change/', shown(response)))


def ids(*records: IdempotencyRecord) -> set[str]:
    return {str(each.pk) for each in records}


# The list


def test_list_shows_the_life_of_a_record(admin_client: Client) -> None:
    record(attempts=3, replays=17)
    text = re.sub(r"<[^>]*>|\s+", " ", shown(admin_client.get(LIST)))

    assert re.search(r" POST /checkout/\s+kept\s+201\s+3\s+17 ", text)


def test_list_cuts_long_paths(admin_client: Client) -> None:
    record()
    IdempotencyRecord.objects.update(path="/" + "x" * 3000)

    text = re.sub(r"<[^>]*>", " ", shown(admin_client.get(LIST)))

    assert max(map(len, re.findall(r"x+…?", text))) < 40


@pytest.mark.parametrize("state", ["in_flight", "kept", "released", "held"])
def test_list_is_filtered_by_state(state: str, admin_client: Client) -> None:
    wanted = record("1", state=state)
    record("2", state="kept" if state == "released" else "released")

    assert rows(admin_client.get(f"{LIST}?state__exact={state}")) == ids(wanted)


def test_list_is_filtered_by_method(admin_client: Client) -> None:
    wanted = record(method="DELETE")
    record(method="POST")

    assert rows(admin_client.get(f"{LIST}?method=DELETE")) == ids(wanted)


def test_methods_to_filter_by_are_not_asked_of_the_table(admin_client: Client) -> None:
    page = shown(admin_client.get(LIST))

    assert {
        method for method in ("DELETE", "PATCH", "POST", "PUT", "GET")
        if f"?method={method}" in page
    } == {"DELETE", "PATCH", "POST", "PUT"}  # fmt: skip


def test_list_is_filtered_by_expiry(admin_client: Client) -> None:
    wanted = record("1")
    record("2", expires_at=now() - timedelta(days=3))
    since = quote((now() - timedelta(hours=1)).isoformat())

    assert rows(admin_client.get(f"{LIST}?expires_at__gte={since}")) == ids(wanted)


def test_list_begins_with_what_expires_last(admin_client: Client) -> None:
    for hours in (1, 3, 2):
        record(str(hours), expires_at=now() + timedelta(hours=hours))
    page = shown(admin_client.get(LIST))
    order = [str(record_id_of(Scope(principal="shop.User:7", method="POST",
                                    path="/checkout/"), each)) for each in "321"]  # fmt: skip

    assert sorted(order, key=page.index) == order


def queries_of(client: Client, url: str) -> list[str]:
    """The statements on the table of records, as they were sent."""
    with CaptureQueriesContext(
        connection,
    ) as captured:
        client.get(url)
    return [each["sql"] for each in captured.captured_queries if TABLE in each["sql"]]


def test_list_reads_no_bodies(admin_client: Client) -> None:
    """A page of a hundred answers of a megabyte each would be slow to open."""
    record()

    assert not [sql for sql in queries_of(admin_client, LIST) if "response_body" in sql]


def test_list_counts_no_further_than_its_bound(admin_client: Client) -> None:
    record()
    counts = [sql for sql in queries_of(admin_client, LIST) if "COUNT(" in sql]

    assert [f"LIMIT {MOST_COUNTED}" in sql for sql in counts] == [True]


def test_facets_that_would_count_everything_are_off(admin_client: Client) -> None:
    record()
    counts = [
        sql for sql in queries_of(admin_client, f"{LIST}?_facets=True")
        if "COUNT(" in sql and f"LIMIT {MOST_COUNTED}" not in sql
    ]  # fmt: skip

    assert counts == []


def test_list_takes_as_many_statements_for_many_records(admin_client: Client) -> None:
    record()
    one = len(queries_of(admin_client, LIST))
    for number in range(20):
        record(str(number))

    assert len(queries_of(admin_client, LIST)) == one


# The search


def search(term: str) -> str:
    return f"{LIST}?q={quote(term)}"


SCOPE_AND_KEY = "shop.User:7|POST|/checkout/ order-1"


def test_search_by_id_finds_the_record(admin_client: Client) -> None:
    wanted = record()
    record("another")

    assert rows(admin_client.get(search(f" {wanted.pk} "))) == ids(wanted)


def test_search_by_id_without_dashes_finds_the_record(admin_client: Client) -> None:
    wanted = record()

    assert rows(admin_client.get(search(wanted.pk.hex))) == ids(wanted)


def test_search_by_scope_and_key_finds_the_record(admin_client: Client) -> None:
    wanted = record()
    record("another")

    assert rows(admin_client.get(search(SCOPE_AND_KEY))) == ids(wanted)


@pytest.mark.parametrize(
    ("principal", "key"),
    [("tenant:4|user:2", "order-1"), ("anonymous", GUEST_KEY), ("a name", "order-1")],
)
def test_search_knows_odd_principals(
    principal: str, key: str, admin_client: Client
) -> None:
    wanted = record(key, principal=principal)

    assert rows(admin_client.get(search(f"{wanted.scope} {key}"))) == ids(wanted)


def test_search_without_a_hit_shows_nothing(admin_client: Client) -> None:
    record()

    assert rows(admin_client.get(search(str(uuid.uuid4())))) == set()


@pytest.mark.parametrize("term", [str(uuid.UUID(int=7)), SCOPE_AND_KEY])
def test_search_looks_by_the_primary_key_alone(term: str, admin_client: Client) -> None:
    conditions = [
        sql.split(" WHERE ")[1].split(" ORDER BY ")[0].split(" LIMIT ")[0]
        for sql in queries_of(admin_client, search(term))
    ]

    assert conditions
    assert all(
        re.fullmatch(rf'"{TABLE}"\."id" = [^ ]+', each.replace("`", '"').strip(" )"))
        for each in conditions
    )


@pytest.mark.parametrize(
    "term", ["order-1", "/checkout/", "shop.User:7|POST|/checkout/"]
)
def test_search_for_a_part_says_why_it_is_not_made(
    term: str, admin_client: Client
) -> None:
    record()
    page = shown(admin_client.get(search(term)))

    assert "Search for an id, or for a whole scope and key." in page


@pytest.mark.parametrize("term", ["order-1", "/checkout/"])
def test_search_for_a_part_reads_no_table(term: str, admin_client: Client) -> None:
    assert [
        sql for sql in queries_of(admin_client, search(term)) if "WHERE" in sql
    ] == []


# One record

PRE = '<pre class="idempotency-record">'


def test_body_is_pretty_printed(admin_client: Client) -> None:
    page = detail(record(), admin_client)

    assert (
        "{\n  &quot;order&quot;: 1,\n  &quot;lines&quot;: [\n    {\n"
        "      &quot;sku&quot;: &quot;Tée&quot;\n    }\n  ]\n}"
    ) in page


def test_body_that_is_text_is_shown_as_it_is(admin_client: Client) -> None:
    assert f"{PRE}Thank you,\nAnn</pre>" in detail(
        record(response_body=b"Thank you,\nAnn"), admin_client
    )


def test_body_that_is_no_text_is_told_by_its_size(admin_client: Client) -> None:
    assert "4 bytes that are no text" in detail(
        record(response_body=b"\xff\xd8\xff\xe0"), admin_client
    )


def test_long_lines_are_broken_by_a_style_sheet(admin_client: Client) -> None:
    assert "django_idempotency/admin.css" in detail(record(), admin_client)


def test_body_that_was_not_kept_says_so(admin_client: Client) -> None:
    assert "Not kept." in detail(record(response_body=None), admin_client)


def test_html_in_a_body_is_escaped(admin_client: Client) -> None:
    page = detail(record(response_body=b"<script>steal()</script>"), admin_client)

    assert ("<script>steal()" in page, "&lt;script&gt;steal()" in page) == (False, True)


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
def test_html_anywhere_in_a_record_is_escaped(
    fields: dict[str, Any], admin_client: Client
) -> None:
    hostile = record("harmless")
    IdempotencyRecord.objects.update(**fields)
    pages = detail(hostile, admin_client) + shown(admin_client.get(LIST))

    assert HOSTILE not in pages


def test_headers_are_shown_one_a_line(admin_client: Client) -> None:
    assert f"{PRE}Content-Type: application/json\nLocation: /orders/1/</pre>" in detail(
        record(), admin_client
    )


@pytest.mark.parametrize(
    "name",
    ["Set-Cookie", "Authorization", "X-Api-Key", "X-CSRF-Token", "X-Webhook-Signature"],
)
def test_sensitive_header_is_masked(name: str, admin_client: Client) -> None:
    page = detail(record(response_headers=[[name, "s3cr3t"]]), admin_client)

    assert (f"{name}: {MASK}" in page, "s3cr3t" in page) == (True, False)


def test_record_without_an_answer_can_be_looked_at(admin_client: Client) -> None:
    unfinished = record(
        state="released",
        response_status=None,
        response_headers=None,
        response_body=None,
        completed_at=None,
        last_error="builtins.ValueError",
    )

    assert "builtins.ValueError" in detail(unfinished, admin_client)


def test_headers_that_cant_be_read_do_not_hide_the_record(admin_client: Client) -> None:
    """FR-017: it is the record that somebody has come to look at."""
    odd = record(response_headers={"Location": "/orders/1/"})

    assert "/checkout/" in detail(odd, admin_client)


def test_key_of_a_guest_is_masked(admin_client: Client) -> None:
    """FR-064: it is a bearer secret."""
    page = detail(record(GUEST_KEY, principal="anonymous"), admin_client)

    assert (f"{GUEST_KEY[:4]}{MASK}" in page, GUEST_KEY in page) == (True, False)


def test_key_of_a_user_is_shown(admin_client: Client) -> None:
    assert "order-1" in detail(record(), admin_client)


# Nothing can be changed


@pytest.mark.parametrize("url", ["add/", "{pk}/change/"])
def test_nothing_can_be_added_or_changed(url: str, admin_client: Client) -> None:
    before = record()
    url = f"{LIST}{url.format(pk=before.pk)}"
    response = admin_client.post(url, {"state": "released", "key": "another"})

    assert (response.status_code, IdempotencyRecord.objects.get().state) == (
        403,
        "kept",
    )


def test_page_of_a_record_has_nothing_to_fill_in(admin_client: Client) -> None:
    page = detail(record(), admin_client)
    form = page[page.index('id="idempotencyrecord_form"') :].partition("</form>")[0]

    assert re.findall(r'<(?:textarea|select)|type="(?:text|submit)"|_save', form) == []


def test_list_offers_no_record_to_add(admin_client: Client) -> None:
    assert f"{LIST}add/" not in shown(admin_client.get(LIST))


def test_viewer_may_look() -> None:
    wanted = record()

    assert rows(colleague("view").get(LIST)) == ids(wanted)


@pytest.mark.parametrize("permissions", [(), ("add",), ("delete",)])
def test_nobody_looks_without_the_permission(permissions: tuple[str, ...]) -> None:
    status = colleague(*permissions).get(LIST).status_code

    # Who may only delete isn't shown the list either.
    assert status == 403


@pytest.mark.parametrize("permissions", [("view",), ("view", "add", "change")])
def test_nobody_deletes_without_the_permission(permissions: tuple[str, ...]) -> None:
    kept = record()
    status = colleague(*permissions).post(
        f"{LIST}{kept.pk}/delete/", {"post": "yes"}
    ).status_code  # fmt: skip

    assert (status, IdempotencyRecord.objects.count()) == (403, 1)


def bulk_delete(client: Client, kept: IdempotencyRecord) -> ClientResponse:
    return client.post(
        LIST,
        {
            "action": "delete_selected",
            "_selected_action": str(kept.pk),
            "post": "yes",
        },
    )


def test_bulk_deletion_needs_the_permission() -> None:
    kept = record()
    bulk_delete(colleague("view", "change", "add"), kept)

    assert IdempotencyRecord.objects.count() == 1


def test_bulk_deletion_is_done_with_the_permission() -> None:
    kept = record()
    bulk_delete(colleague("view", "delete"), kept)

    assert IdempotencyRecord.objects.count() == 0


def test_record_is_deleted_with_the_permission() -> None:
    kept = record()
    colleague("view", "delete").post(f"{LIST}{kept.pk}/delete/", {"post": "yes"})

    assert IdempotencyRecord.objects.count() == 0


def test_deletion_is_asked_twice() -> None:
    kept = record()
    page = shown(colleague("view", "delete").get(f"{LIST}{kept.pk}/delete/"))

    assert ("Are you sure" in page, IdempotencyRecord.objects.count()) == (True, 1)


def test_log_of_a_deletion_names_no_key() -> None:
    kept = record(GUEST_KEY, principal="anonymous")
    client = colleague("view", "delete")
    client.post(f"{LIST}{kept.pk}/delete/", {"post": "yes"})
    (entry,) = admin.models.LogEntry.objects.all()

    assert entry.object_repr == "POST /checkout/ (kept)"


def test_history_of_a_record_can_be_looked_at(admin_client: Client) -> None:
    assert admin_client.get(f"{LIST}{record().pk}/history/").status_code == 200


def test_body_is_what_the_first_client_got(admin_client: Client) -> None:
    """Numbers are not rounded and letters not respelt by printing them prettily."""
    body = json.dumps({"amount": 10**20, "note": "ß"})

    assert "100000000000000000000" in detail(
        record(response_body=body.encode()), admin_client
    )
