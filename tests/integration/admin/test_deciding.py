"""A person decides on a row's own page: told what follows, asked why, and once."""

from __future__ import annotations

from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path
from django.utils import timezone

from django_idempotency.core.keys import derive_key
from django_idempotency.core.links import Link, LinkKind
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.store import links
from django_idempotency.webhooks import PermanentError
from tests.factories import (
    IdempotencyRecordFactory,
    ProcessedEventFactory,
    UserFactory,
)
from tests.integration.webhooks import receivers
from tests.integration.webhooks.receivers import only, scene
from tests.support.cases import cases
from tests.support.deliveries import deliver, stripe
from tests.support.staff import Form, colleague
from tests.testapp.models import Order

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]


def not_found(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return HttpResponse(status=404)


urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include(receivers.urlpatterns)),
]
handler404 = not_found

A_MINUTE = timedelta(minutes=1)
RECORDS = "/admin/django_idempotency/idempotencyrecord/"
EVENTS = "/admin/django_idempotency/processedevent/"


@pytest.fixture
def held() -> IdempotencyRecord:
    made: IdempotencyRecord = IdempotencyRecordFactory.create(
        held=True, user=UserFactory.create(username="lily"), path="/checkout/"
    )
    about = [
        Link(kind=LinkKind.OBJECT, value="cart 117", amount="46.82 EUR"),
        Link(kind=LinkKind.REFERENCE, value="order-117"),
        Link(kind=LinkKind.CALL, value=derive_key(made.pk, "charge"), label="charge"),
    ]
    links.add(about, made.pk, retention=A_MINUTE, using="default")
    return made


def kept(result: Any) -> None:
    """The step has ended well elsewhere, and that is what it returned."""
    step = {"name": "charge", "kind": "call", "done": True, "result": result}
    IdempotencyRecordFactory.create(effects={"steps": [step]})


def page(client: Client, url: str) -> str:
    return unescape(client.get(url).content.decode())


def decide(row: Any, name: str) -> str:
    kind = RECORDS if isinstance(row, IdempotencyRecord) else EVENTS
    return f"{kind}{row.pk}/decide/{name}/"


@pytest.fixture
def settler() -> Client:
    UserFactory.create(username="colleague", is_staff=True)
    return colleague("view", "settle")


@pytest.mark.parametrize(
    ("name", "label", "effect"),
    [
        ("applied", "It is there: “charge” has happened…", "is not made again"),
        ("not-applied", "It is not there: let the retry make", "makes “charge” again"),
    ],
)
def test_page_that_asks_names_what_is_decided(
    held: IdempotencyRecord, settler: Client, name: str, label: str, effect: str
) -> None:
    story = page(settler, f"{RECORDS}{held.pk}/change/")
    question = page(settler, decide(held, name))

    assert label in story
    assert decide(held, name) in story
    for named in ("46.82 EUR", "cart 117", "order-117", "charge", effect):
        assert named in question
    assert derive_key(held.pk, "charge") in question  # to look for at the provider


def test_customer_is_named_to_who_may_look_at_users(held: IdempotencyRecord) -> None:
    all_ = Client()
    may_not = page(colleague("view"), f"{RECORDS}{held.pk}/change/")
    assert "To decide takes a permission that you don't have." in may_not
    some = colleague("view", "settle")
    assert "lily" not in page(some, f"{RECORDS}{held.pk}/change/")
    all_.force_login(UserFactory.create(is_staff=True, is_superuser=True))

    assert "Payment of 46.82 EUR by lily" in page(all_, f"{RECORDS}{held.pk}/change/")
    assert "lily" in page(all_, decide(held, "applied"))


@cases(
    "earlier, given, result",
    {
        "text": ("ch_1", {"result": 'ch_"2'}, 'ch_"2'),
        "number": (7, {"result": "100000000000000000000"}, 10**20),
        "fraction": (1.5, {"result": "46.82"}, 46.82),
        "yes or no": (True, {"result": "no"}, False),
        "fields": (
            {"id": "ch_1", "cents": 3, "live": True},
            {"result-id": "ch_2", "result-cents": "5", "result-live": "yes"},
            {"id": "ch_2", "cents": 5, "live": True},
        ),
        "nested": ({"a": [1]}, {"result": '{"a": [2]}'}, {"a": [2]}),
        "nothing before": (None, {"result": ""}, None),
    },
)
def test_result_is_asked_for_in_its_earlier_shape(
    held: IdempotencyRecord, settler: Client, earlier: Any, given: Any, result: Any
) -> None:
    kept(earlier)
    Form.on_page(settler, decide(held, "applied")).send(reason="seen", **given)
    held.refresh_from_db()

    assert held.state == "released"
    assert held.steps[-1]["result"] == result


def test_another_shape_can_be_given(held: IdempotencyRecord, settler: Client) -> None:
    kept("ch_1")
    url = f"{decide(held, 'applied')}?as=json"
    Form.on_page(settler, url).send(reason="seen", result='{"id": 1}')

    assert IdempotencyRecord.objects.get(pk=held.pk).steps[-1]["result"] == {"id": 1}


@cases(
    "earlier, given, said",
    {
        "no reason": (None, {"reason": " ", "result": "[7]"}, "This field is required"),
        "no JSON": (None, {"reason": "why", "result": "{7"}, "isn't valid JSON"),
        "no number": (3, {"reason": "why", "result": "7 EUR"}, "Give a number"),
    },
)
def test_what_was_typed_survives_an_error(
    held: IdempotencyRecord, settler: Client, earlier: Any, given: Any, said: str
) -> None:
    kept(earlier)
    form = Form.on_page(settler, decide(held, "applied"))
    shown = form.send(**given)

    assert (said in shown, 'aria-invalid="true"' in shown) == (True, True)
    for typed in given.values():
        assert typed in shown
    held.refresh_from_db()
    assert held.state == "held"
    # The form that came back has a key of its own, so it isn't taken for the first one.
    again = Form._on(settler, form.url, shown)
    again.send(reason="why", result="7")
    held.refresh_from_db()
    assert held.state == "released"


@pytest.mark.parametrize("second", ["the same", "another"])
def test_second_click_decides_nothing(
    held: IdempotencyRecord, settler: Client, second: str
) -> None:
    forms = [Form.on_page(settler, decide(held, "not-applied")) for _ in range(2)]
    forms[0].send(reason="first")
    told = (forms[0] if second == "the same" else forms[1]).send(reason="first")
    held.refresh_from_db()

    assert "sent more than once" in told or "changed since you looked" in told
    assert len(held.effects["settlements"]) == 1
    assert LogEntry.objects.count() == 1


@cases(
    "permissions, state, name, status",
    {
        "not to settle": (("view", "delete"), "held", "applied", 403),
        "not to view": (("settle",), "held", "applied", 403),
        "no such decision": (("view", "settle"), "held", "maybe", 404),
        "not held": (("view", "settle"), "kept", "applied", 302),
    },
)
def test_only_what_is_possible_is_asked(
    held: IdempotencyRecord, permissions: Any, state: str, name: str, status: int
) -> None:
    IdempotencyRecord.objects.update(
        state=state, response_status=201, response_headers=[]
    )
    client = colleague(*permissions)
    answers = [client.get(decide(held, name)), client.post(decide(held, name))]

    assert [each.status_code for each in answers] == [status, status]
    shown = page(client, f"{RECORDS}{held.pk}/change/")
    assert ("/decide/" in shown) is (status == 404)


def test_running_call_is_not_decided(held: IdempotencyRecord, settler: Client) -> None:
    end = held.created_at + A_MINUTE
    IdempotencyRecord.objects.update(lease_expires_at=end)

    assert "/decide/" not in page(settler, f"{RECORDS}{held.pk}/change/")
    assert settler.get(decide(held, "applied")).status_code == 302


def dead() -> ProcessedEvent:
    scene.failures.append(PermanentError("no such order"))
    deliver("/inline/", stripe("evt_dead"))
    return only()


@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_event_is_run_again_from_its_page(again: bool) -> None:
    client, event = colleague("view", "rerun", of="processedevent"), dead()
    story = page(client, f"{EVENTS}{event.pk}/change/")
    form = Form.on_page(client, decide(event, "run-again"))
    for _ in range(1 + again):
        form.send(reason="imported")

    assert "no such order" in story
    assert decide(event, "run-again") in story
    assert decide(event, "reopen") not in story
    assert [run["reason"] for run in only().reruns] == ["imported"]
    assert (only().state, Order.objects.count()) == ("processed", 1)


def test_event_is_reopened_from_its_page() -> None:
    deliver("/inline/", stripe("evt_1"))
    client = colleague("view", "reopen", of="processedevent")
    form = Form.on_page(client, decide(only(), "reopen"))
    refused = form.send(reason="")
    assert "This field is required" in refused
    Form._on(client, form.url, refused).send(reason="lost")

    assert only().state == "reopened"


@pytest.mark.parametrize("way", ["page", "list"])
@pytest.mark.parametrize("act", ["applied", "run-again"])
def test_act_is_in_the_admins_log_and_outlives_the_row(
    held: IdempotencyRecord, way: str, act: str
) -> None:
    row: Any = held if act == "applied" else dead()
    kind = "idempotencyrecord" if act == "applied" else "processedevent"
    client = colleague("view", "settle" if act == "applied" else "rerun", of=kind)
    if way == "page":
        form = Form.on_page(client, decide(row, act))
    else:
        action = {"applied": "settle_as_applied", "run-again": "run_again"}[act]
        base = RECORDS if act == "applied" else EVENTS
        form = Form.shown(client, base, action, row)
    form.send(reason="on the statement", result="7")
    type(row).objects.all().delete()
    entry = LogEntry.objects.get()

    assert entry.user.get_username() == "colleague"
    assert entry.object_id == str(row.pk)
    assert "on the statement" in entry.change_message


def test_decision_about_work_without_steps_names_the_work(settler: Client) -> None:
    """It was committed in the middle, so no call is in question."""
    lost = IdempotencyRecordFactory.create(held=True, effects={})
    story = page(settler, f"{RECORDS}{lost.pk}/change/")

    for told in ("It is done: all of it…", "It is not done: let the retry do it…"):
        assert told in story
    assert "Look at what the work has written" in page(settler, decide(lost, "applied"))
    Form.on_page(settler, decide(lost, "applied")).send(reason="seen", result="")
    assert IdempotencyRecord.objects.get(pk=lost.pk).state == "kept"


def test_decision_that_the_steps_contradict_is_refused_beside_the_form(
    held: IdempotencyRecord, settler: Client
) -> None:
    done = {"name": "mail", "kind": "call", "done": True, "result": 1}
    steps = [held.effects["steps"][0], done]
    IdempotencyRecord.objects.filter(pk=held.pk).update(effects={"steps": steps})
    said = Form.on_page(settler, decide(held, "not-applied")).send(reason="why")

    assert "was applied: other steps were done after it" in said
    held.refresh_from_db()
    assert held.state == "held"


def test_row_that_is_gone_is_not_decided(held: IdempotencyRecord) -> None:
    url = decide(held, "applied")
    settler = colleague("view", "settle")
    IdempotencyRecord.objects.all().delete()

    assert settler.get(url).status_code == 302


@pytest.mark.parametrize("state", ["held", "kept"])
def test_deleting_takes_its_permission(held: IdempotencyRecord, state: str) -> None:
    IdempotencyRecord.objects.update(
        state=state, response_status=201, response_headers=[]
    )
    url = f"{RECORDS}{held.pk}/delete/"

    assert colleague("view").post(url, {"post": "yes"}).status_code == 403


# Forgetting and releasing


def stuck() -> Any:
    past = timezone.now() - A_MINUTE
    return IdempotencyRecordFactory.create(
        in_flight=True, lease_expires_at=past, user=UserFactory.create()
    )


def answered() -> Any:
    return IdempotencyRecordFactory.create(user=UserFactory.create())


def task() -> Any:
    made = answered()
    IdempotencyRecord.objects.filter(pk=made.pk).update(method="TASK")
    return made


FORGETTING: dict[str, Any] = {
    "release": (
        stuck,
        "Nothing has happened: release the key…",
        "released",
        ("freed",),
    ),
    "forget": (answered, "Forget the answer…", "kept", ("forgotten",)),
    "erase": (answered, "Erase this person…", "kept", ("erased",)),
}


@pytest.mark.parametrize("name", FORGETTING)
def test_forgetting_and_releasing_have_a_permission_of_their_own(name: str) -> None:
    make, label, state, notes = FORGETTING[name]
    row = make()
    others = {"settle", "delete", *FORGETTING} - {name}
    without = colleague("view", *others)
    assert label not in page(without, f"{RECORDS}{row.pk}/change/")
    assert without.get(decide(row, name)).status_code == 403

    client = colleague("view", name)
    assert label in page(client, f"{RECORDS}{row.pk}/change/")
    form = Form.on_page(client, decide(row, name))
    assert "This field is required" in form.send(reason="")
    Form.on_page(client, decide(row, name)).send(reason="she has asked")
    after = IdempotencyRecord.objects.get(pk=row.pk)

    assert after.state == state
    assert [note["what"] for note in after.history][-1:] == list(notes)
    assert (after.scope == "(erased)") is (name == "erase")
    assert (after.response_status == 0) is (name != "release")
    entry = LogEntry.objects.get()
    assert "she has asked" in entry.change_message
    told = entry.change_message + entry.object_repr
    assert (row.path in told) is (name != "erase")
    # The story goes on, and offers it no more.
    story = page(client, f"{RECORDS}{row.pk}/change/")
    assert "colleague" in story
    assert label not in story


@pytest.mark.parametrize("name", FORGETTING)
def test_second_click_forgets_nothing_more(name: str) -> None:
    make, *_ = FORGETTING[name]
    row = make()
    client = colleague("view", name)
    forms = [Form.on_page(client, decide(row, name)) for _ in range(2)]
    forms[0].send(reason="first")
    told = forms[1].send(reason="second")

    assert "first" in LogEntry.objects.get().change_message
    refusals = ("changed since you looked", "already", "not possible")
    assert [each for each in refusals if each in told]


@cases(
    "row, name",
    {
        "of a guest": (lambda: IdempotencyRecordFactory.create(), "erase"),
        "of a task": (lambda: task(), "erase"),
        "running": (lambda: IdempotencyRecordFactory.create(in_flight=True), "release"),
        "held": (lambda: IdempotencyRecordFactory.create(held=True), "forget"),
    },
)
def test_what_can_not_be_forgotten_is_not_offered(row: Any, name: str) -> None:
    made = row()
    client = colleague("view", *FORGETTING)

    assert decide(made, name) not in page(client, f"{RECORDS}{made.pk}/change/")
    assert client.get(decide(made, name)).status_code == 302


# Deleting


@pytest.mark.parametrize("state", ["held", "in_flight"])
@pytest.mark.parametrize("way", ["page", "list"])
def test_what_is_open_is_not_deleted(
    held: IdempotencyRecord, state: str, way: str
) -> None:
    IdempotencyRecord.objects.update(state=state)
    client = colleague("view", "delete")
    if way == "page":
        url, data = f"{RECORDS}{held.pk}/delete/", {"post": "yes"}
    else:
        url = RECORDS
        data = {"action": "delete_selected", "_selected_action": str(held.pk)}
        data["post"] = "yes"
    shown = unescape(client.post(url, data, follow=True).content.decode())

    assert "can't be deleted" in shown
    assert IdempotencyRecord.objects.count() == 1


@pytest.mark.parametrize("way", ["page", "list"])
@pytest.mark.parametrize("kind", ["record", "event"])
def test_deleting_says_that_the_work_is_done_again(way: str, kind: str) -> None:
    is_record = kind == "record"
    factory: Any = IdempotencyRecordFactory if is_record else ProcessedEventFactory
    row = factory.create()
    base = RECORDS if is_record else EVENTS
    of = "idempotencyrecord" if is_record else "processedevent"
    client = colleague("view", "delete", of=of)
    if way == "page":
        answer = client.get(f"{base}{row.pk}/delete/")
    else:
        data = {"action": "delete_selected", "_selected_action": str(row.pk)}
        answer = client.post(base, data)
    shown = unescape(answer.content.decode())

    assert ("does the work again" if is_record else "runs its handler again") in shown
    assert type(row).objects.count() == 1


# What a page costs


def test_page_takes_as_many_statements_for_a_longer_story(
    held: IdempotencyRecord,
) -> None:
    client = Client()
    client.force_login(UserFactory.create(is_staff=True, is_superuser=True))

    def count() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(f"{RECORDS}{held.pk}/change/").status_code == 200
        return len(captured)

    count()
    first = count()
    for number in range(10):
        other = IdempotencyRecordFactory.create()
        event = ProcessedEventFactory.create(
            event_id=f"evt_{number}", object_key="order-117"
        )
        same = Link(kind=LinkKind.OBJECT, value="cart 117")
        for row in (other, event):
            links.add([same], row.pk, retention=A_MINUTE, using="default")

    # The session, the reader, the row, its links, its customer, other rows with such links
    # and events; then those other rows as well.
    assert (first, count()) == (7, 8)
