"""Operators who may do less than they try: at each address and with each act, by GET and
by POST, in each way that the admin has.

Addresses are taken from the admin itself, so that a new one is tried as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db.models import Model
from django.test import Client
from django.urls import include, path

from django_idempotency.core.links import Link, LinkKind
from django_idempotency.models import IdempotencyRecord, OperationLink, ProcessedEvent
from django_idempotency.store import links
from tests.factories import IdempotencyRecordFactory, ProcessedEventFactory, UserFactory
from tests.integration.webhooks import receivers
from tests.support.cases import cases
from tests.support.staff import colleague
from tests.testapp.models import Order

from .test_deciding import A_MINUTE, stuck

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

urlpatterns = [
    path("admin/", admin.site.urls),
    path("health/", include("django_idempotency.health.urls")),
    path("metrics/", include("django_idempotency.contrib.prometheus.urls")),
    path("", include(receivers.urlpatterns)),
]

MARK = "told-to-nobody"
SOUGHT = "evt-and-key"
NAME = "lily-the-customer"
BASE = "/admin/django_idempotency/"
MODELS: tuple[type[Model], ...] = (IdempotencyRecord, ProcessedEvent)


def everything() -> list[Any]:
    """All that an act could change."""
    models: tuple[type[Model], ...] = (*MODELS, OperationLink, Order, LogEntry)
    return [list(model._base_manager.order_by("pk").values()) for model in models]


def rows() -> list[Any]:
    customer = UserFactory.create(username=NAME)
    record = IdempotencyRecordFactory.create(
        held=True, user=customer, path=f"/{MARK}/", key=SOUGHT
    )
    about = [
        Link(kind=LinkKind.OBJECT, value=f"auth.User:{customer.pk}", label=NAME),
        Link(kind=LinkKind.OBJECT, value=f"cart {MARK}", amount="46.82 EUR"),
    ]
    links.add(about, record.pk, retention=A_MINUTE, using="default")
    event = ProcessedEventFactory.create(
        dead=True, endpoint="tested-inbox", event_id=SOUGHT, body=MARK.encode()
    )
    return [record, event]


def addresses(*made: Any) -> set[str]:
    """Every address that the admin has for these rows and their tables."""
    found = {BASE, "/admin/", "/health/", "/metrics/", "/health/?fail_on=dead"}
    for row in made:
        shown = admin.site._registry[type(row)]
        base = f"{BASE}{row._meta.model_name}/"
        for each in shown.get_urls():
            route = str(each.pattern).replace("<path:object_id>", str(row.pk))
            names = [decision.name for decision in shown.decisions]  # type: ignore[attr-defined]
            routes = [route.replace("<slug:name>", name) for name in names]
            found |= {base + each.lstrip("^").rstrip("$") for each in routes}
        found |= {
            f"{base}find/?q={SOUGHT}",
            f"{base}?q={SOUGHT}",
            f"{base}?state__exact=held",
        }
    return found


def somebody(*permissions: str, is_staff: bool = True) -> Client:
    """Of the staff, or not, with these permissions of ours, by their whole names."""
    user = User.objects.create_user("mallory", is_staff=is_staff)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def all_but(*kinds: str) -> list[str]:
    ours = Permission.objects.filter(content_type__app_label="django_idempotency")
    codenames = ours.values_list("codename", flat=True)
    return [each for each in codenames if each.partition("_")[0] not in kinds]


BLIND: dict[str, Callable[[], Client]] = {
    "nobody": Client,
    "a customer with all permissions": lambda: somebody(*all_but(), is_staff=False),
    "staff": lambda: somebody(),
    # Django lets who may delete do it without looking.
    "all but to look": lambda: somebody(*all_but("view", "change", "delete")),
}


@pytest.mark.parametrize("verb", ["get", "post", "put", "delete"])
@cases("make", BLIND)
def test_who_may_not_look_learns_and_changes_nothing(make: Any, verb: str) -> None:
    made = rows()
    client, before = make(), everything()
    client.raise_request_exception = False
    filled = {
        **{"post": "yes", "reason": "r", "result": "1", "confirmed": "yes"},
        **{f"seen-{row.pk}": row.seen for row in made},
        **{"_selected_action": [str(row.pk) for row in made]},
    }
    for url in addresses(*made):
        for row in made if verb == "post" else made[:1]:
            sent = {**filled, "seen": row.seen}
            answer = getattr(client, verb)(url, sent if verb == "post" else None)
            told = answer.content.decode() + answer.headers.get("Location", "")
            assert (url, answer.status_code < 500) == (url, True)
            assert (url, [each for each in (MARK, NAME) if each in told]) == (url, [])
    assert everything() == before


ACTS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "applied": (lambda: rows()[0], "settle", "settle_as_applied"),
    "not-applied": (lambda: rows()[0], "settle", "settle_as_not_applied"),
    "release": (stuck, "release", ""),
    "forget": (
        lambda: IdempotencyRecordFactory.create(user=UserFactory.create()),
        *("forget", ""),
    ),
    "erase": (
        lambda: IdempotencyRecordFactory.create(user=UserFactory.create()),
        *("erase", ""),
    ),
    "run-again": (lambda: rows()[1], "rerun", "run_again"),
    "reopen": (
        lambda: ProcessedEventFactory.create(endpoint="tested-inline"),
        *("reopen", "reopen"),
    ),
    "drop": (lambda: rows()[1], "drop", ""),
    "delete": (
        lambda: IdempotencyRecordFactory.create(user=UserFactory.create()),
        *("delete", "delete_selected"),
    ),
}
"""How a row is made to which it can be done, its permission, and the list's action."""


def test_table_has_all_acts() -> None:
    shown = [admin.site._registry[model] for model in MODELS]
    names = {each.name for one in shown for each in one.decisions}  # type: ignore[attr-defined]
    actions = {action for one in shown for action in one.actions or ()}

    assert names | {"delete"} == ACTS.keys()
    assert actions < {action for _, _, action in ACTS.values()}


def attempt(client: Client, row: Any, name: str, action: str) -> None:
    """Try it as the page does, as the list does, and without having asked for either."""
    base = f"{BASE}{row._meta.model_name}/"
    reason = {"reason": "r", "result": "1", "post": "yes"}
    one = "delete/" if name == "delete" else f"decide/{name}/"
    for verb in ("put", "patch", "delete", "get", "post"):
        getattr(client, verb)(f"{base}{row.pk}/{one}", {**reason, "seen": row.seen})
    if action:
        chosen = {"action": action, "_selected_action": str(row.pk)}
        sent = {**reason, "confirmed": "yes", f"seen-{row.pk}": row.seen}
        client.post(base, {**chosen, **sent})


@pytest.mark.parametrize("name", ACTS)
def test_each_act_takes_its_own_permission_and_that_to_look(name: str) -> None:
    """With all others it is nothing, in whatever way it is tried; with these it is done."""
    make, permission, action = ACTS[name]
    row = make()
    before = everything()
    one = row._meta.model_name
    for lacking in (permission, "view"):
        kinds = (lacking, "change") if lacking == "view" else (lacking,)
        User.objects.filter(username="mallory").delete()
        client = somebody(*all_but(*kinds))
        client.raise_request_exception = False
        attempt(client, row, name, action)
        if (lacking, name) != ("view", "delete"):  # which Django lets who may not look
            assert (lacking, everything()) == (lacking, before)
    if name != "delete":
        attempt(somebody_else(permission, of=one), row, name, action)
        assert everything() != before


def somebody_else(permission: str, *, of: str) -> Client:
    return colleague("view", permission, of=of)


@pytest.mark.parametrize("of", ["idempotencyrecord", "processedevent"])
def test_customer_is_named_nowhere_to_who_may_not_look_at_users(of: str) -> None:
    made = rows()
    client = colleague("view", "settle", "release", "forget", "erase", of=of)
    pages = {
        url: client.get(url, follow=True).content.decode() for url in addresses(*made)
    }

    assert [url for url, page in pages.items() if NAME in page] == []
    assert SOUGHT in "".join(pages.values())


ODD = {
    "NUL": ("a\0b", '"a\\u0000b"'),
    "half a surrogate pair": ("a", '"\\ud800"'),
    "deep": ("a", "[" * 100_000),
    "long": ("x" * 100_000, '"' + "x" * 100_000 + '"'),
    "no number": ("a", "NaN"),
    "HTML": ("<script>", '"<script>"'),
}


@pytest.mark.parametrize("way", ["page", "list"])
@cases("reason, result", ODD)
def test_odd_words_of_an_operator_are_done_or_refused(
    reason: str, result: str, way: str
) -> None:
    record, _ = rows()
    client = colleague("view", "settle")
    client.raise_request_exception = False
    base = f"{BASE}idempotencyrecord/"
    sent = {"reason": reason, "result": result, "confirmed": "yes", "seen": record.seen}
    if way == "page":
        answer = client.post(f"{base}{record.pk}/decide/applied/?as=json", sent)
    else:
        chosen = {"action": "settle_as_applied", "_selected_action": str(record.pk)}
        answer = client.post(base, {**sent, **chosen, f"seen-{record.pk}": record.seen})
    page = client.get(f"{base}{record.pk}/change/")

    assert (answer.status_code < 500, page.status_code) == (True, 200)
    assert "<script>" not in page.content.decode().partition("idempotency-story")[2]
