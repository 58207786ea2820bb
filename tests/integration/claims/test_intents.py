"""`intent_window`: the same once more under another key is asked about before it is done.

What counts is what became of the first one: only what was done, is being done or may
have been done is in the way, and only for the same person, endpoint and payload.
"""

import io
import json
import re
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from typing import Any

import httpx
import pytest
from django.contrib import admin
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.http import HttpResponse, JsonResponse
from django.template import engines
from django.test import Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_post_parameters
from rest_framework.exceptions import APIException
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import signals
from django_idempotency.contrib.httpx import IdempotentTransport
from django_idempotency.contrib.retries import possible_duplicate
from django_idempotency.decorators import idempotent
from django_idempotency.engine import atomic
from django_idempotency.models import IdempotencyRecord, OperationIntent
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.store.purging import Purge
from tests.factories import UserFactory
from tests.support.browser import ACCEPT, Browser, hidden_fields
from tests.support.cases import cases
from tests.support.ordering import (
    FORM,
    GUEST_KEY,
    forgiving_client,
    orders,
    send,
    signed_in_client,
    word,
)
from tests.support.pages import block, run
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

WINDOW = timedelta(seconds=30)
LEASE = timedelta(minutes=1)
REFUSED = "409 possible-duplicate"


class Scene:
    status = 201
    fails = False
    call_fails = False

    def reset(self) -> None:
        self.status, self.fails, self.call_fails = 201, False, False
        self.meanwhile: list[Callable[[], Any]] = []


scene = Scene()


@pytest.fixture(autouse=True)
def quiet_scene() -> None:
    scene.reset()


def place(request: Any) -> HttpResponse:
    request.idempotency.about("order-117", label="order 117")
    Order.objects.create()
    if scene.fails:
        raise TimeoutError
    return JsonResponse({}, status=scene.status)


def in_steps(request: Any) -> HttpResponse:
    request.idempotency.about("order-117", label="order 117")
    if scene.call_fails:
        request.idempotency.call("charge", charge, if_unknown="hold")
    if scene.fails:
        raise TimeoutError
    request.idempotency.write("order", lambda: Order.objects.create().pk)
    return JsonResponse({}, status=scene.status)


def after_a_step(request: Any) -> HttpResponse:
    request.idempotency.write("order", lambda: Order.objects.create().pk)
    if scene.fails:
        raise TimeoutError
    return JsonResponse({}, status=201)


def charge(key: str) -> None:
    raise TimeoutError


class Refused(APIException):
    status_code = 402


class Orders(IdempotencyMixin, APIView):
    idempotency_policy = IdempotencyPolicy(intent_window=WINDOW, keep_errors=True)

    def post(self, request: Any) -> Response:
        request.idempotency.about("order-117", label="order 117")
        Order.objects.create()
        if scene.fails:
            raise TimeoutError
        if scene.meanwhile:
            scene.meanwhile.pop()()
            raise Refused
        return Response({}, status=scene.status)


def form(request: Any) -> HttpResponse:
    if request.method == "POST":
        return place(request)
    page = "<form>{% csrf_token %}</form>"
    return HttpResponse(engines["django"].from_string(page).render({}, request))


pay = idempotent(intent_window=WINDOW)(place)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("atomic/", idempotent(intent_window=WINDOW)(place)),
    path("form/", idempotent(intent_window=WINDOW)(form)),
    path("sensitive/", sensitive_post_parameters("diagnosis")(pay)),
    path("all-sensitive/", sensitive_post_parameters()(pay)),
    path("service/", csrf_exempt(idempotent(intent_window=WINDOW)(place))),
    path("leased/", idempotent(intent_window=WINDOW, lease=LEASE)(in_steps)),
    path("resumed/", idempotent(intent_window=WINDOW, lease=LEASE)(after_a_step)),
    path("rest/", Orders.as_view()),
    path("default/", idempotent(place)),
    path("off/", idempotent(intent_window=timedelta(0))(place)),
    path("<int:number>/", idempotent(intent_window=WINDOW)(lambda r, number: place(r))),
]

SHAPES = ("/atomic/", "/leased/", "/rest/")
each_shape = pytest.mark.parametrize("url", SHAPES)


def ask(url: str, key: str, client: Client | None = None, **more: Any) -> Any:
    return send(client or forgiving_client(), url, key=key, **more)


def later(seconds: float) -> None:
    """As if so much time had passed since all that has happened."""
    time = timedelta(seconds=seconds)
    IdempotencyRecord.objects.update(
        created_at=F("created_at") - time, completed_at=F("completed_at") - time
    )


@each_shape
def test_the_same_under_another_key_is_refused_until_it_is_confirmed(url: str) -> None:
    first = ask(url, "K1")
    reference = first["Idempotency-Reference"]
    later(12)
    refused = ask(url, "K2")

    assert (word(first), word(refused), orders()) == ("201", REFUSED, 1)
    told = json.loads(refused.content)["first"]
    assert (told["reference"], told["about"]) == (reference, "order 117")
    assert 12 <= told["age_seconds"] < WINDOW.seconds
    assert refused["Idempotency-Reference"] != reference
    assert "Idempotency-Ended" not in refused

    # Not blindly: what is confirmed is this one.
    assert word(ask(url, "K2", Idempotency_Confirm="true")) == REFUSED
    assert word(ask(url, "K2", Idempotency_Confirm=reference.lower())) == "201"
    assert word(ask(url, "K2")) == "201 replayed"
    assert word(ask(url, "K1")) == "201 replayed"
    # And it is a first one itself: nobody has meant a third.
    assert word(ask(url, "K3", Idempotency_Confirm=reference)) == REFUSED
    assert orders() == 2


@each_shape
@cases(
    "other",
    {
        "payload": {"body": b'{"amount": 2}'},
        "person": {"client": "bob"},
        "query": {"query": "?page=2"},
        "method": {"method": "PUT"},
    },
)
def test_only_the_same_of_the_same_person_at_the_same_place_is_one(
    url: str, other: dict[str, Any]
) -> None:
    ask(url, "K1")
    more = dict(other)
    if "client" in more:
        more["client"] = signed_in_client(more["client"])
    answer = ask(url + more.pop("query", ""), "K2", **more)
    assert word(answer) in ("201", "405")
    assert ask("/7/", "K3").status_code == 201
    assert ask("/8/", "K4").status_code == 201


def done() -> None: ...


def held() -> None:
    scene.call_fails = True


def failing() -> None:
    scene.fails = True


def answering(status: int) -> Callable[[], None]:
    def set_status() -> None:
        scene.status = status

    return set_status


@cases(
    "url, first, columns, age, then",
    {
        **{
            f"{name} {url}": (url, *case)
            for url in SHAPES
            for name, case in {
                "done": (done, {}, 0, REFUSED),
                "at the window's end": (done, {}, 28, REFUSED),
                "past the window": (done, {}, 31, "201"),
                "redirected": (answering(303), {}, 0, REFUSED),
                "declined": (answering(402), {}, 0, "201"),
                "raised": (failing, {}, 0, "201"),
                # It counts from the end: the work may take longer than the window.
                "slow": (
                    done,
                    {"created_at": F("created_at") - LEASE},
                    0,
                    REFUSED,
                ),
                "settled": (done, {"response_status": 0}, 0, REFUSED),
            }.items()
        },
        "released": ("/atomic/", answering(503), {}, 0, "201"),
        # Its step is done, and stays so.
        "released after a step": ("/leased/", answering(503), {}, 0, REFUSED),
        "held": ("/leased/", held, {}, 0, REFUSED),
        "held for long": ("/leased/", held, {}, 3600, REFUSED),
        "committed in the middle": (
            "/atomic/",
            done,
            {"state": "in_flight", "response_status": None},
            3600,
            REFUSED,
        ),
        "running": (
            "/leased/",
            done,
            {"state": "in_flight", "lease_expires_at": Now() + LEASE},
            3600,
            "409 in-flight",
        ),
        "killed before a step": (
            "/leased/",
            done,
            {"state": "in_flight", "lease_expires_at": Now() - LEASE, "effects": {}},
            0,
            "201",
        ),
        "killed after a step": (
            "/resumed/",
            done,
            {"state": "in_flight", "lease_expires_at": Now() - LEASE},
            0,
            REFUSED,
        ),
        "failed after a step": ("/resumed/", failing, {}, 0, REFUSED),
        "failed after a step, past": ("/resumed/", failing, {}, 31, "201"),
    },
)
def test_what_became_of_the_first_decides(
    url: str, first: Callable[[], None], columns: dict[str, Any], age: float, then: str
) -> None:
    first()
    ask(url, "K1")
    scene.reset()
    if columns:
        IdempotencyRecord.objects.update(**columns)
    later(age)
    before = orders()

    with override_settings(IDEMPOTENCY_WAIT=timedelta(0)):
        answer = word(ask(url, "K2"))
    assert (answer, orders()) == (then, before + (then == "201"))
    if then == "201":
        assert word(ask(url, "K3")) == REFUSED


def test_refusal_is_kept_whoever_has_asked_for_the_same_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the rollback, before its answer is stored, another one is done."""
    keep = atomic._keep_alone

    def late(operation: Any, answer: Any) -> None:
        assert word(ask("/rest/", "K2")) == "201"
        keep(operation, answer)

    monkeypatch.setattr(atomic, "_keep_alone", late)
    scene.meanwhile.append(list)
    assert [word(ask("/rest/", "K1")) for _ in range(2)] == ["402", "402 replayed"]
    assert word(ask("/rest/", "K3")) == REFUSED


@each_shape
@cases(
    "end",
    {"declined": answering(402), "released": answering(503), "raised": failing},
)
def test_first_one_stays_in_the_way_when_the_second_comes_to_nothing(
    url: str, end: Callable[[], None]
) -> None:
    """Whoever has confirmed a second one has not asked for a third."""
    reference = ask(url, "K1")["Idempotency-Reference"]
    end()
    for _ in range(2):  # and it may be tried again
        answer = word(ask(url, "K2", Idempotency_Confirm=reference))
        assert answer.partition(" ")[0] in ("402", "500", "503")
    scene.reset()
    before = orders()

    refused = ask(url, "K3")
    assert (word(refused), orders()) == (REFUSED, before)
    # Of a second one that has finished a step it is that one.
    told = json.loads(refused.content)["first"]["reference"]
    assert word(ask(url, "K3", Idempotency_Confirm=told)) == "201"
    later(31)
    assert word(ask(url, "K4")) == "201"


def test_form_confirms_by_a_field() -> None:
    client = forgiving_client()
    first = ask("/atomic/", "K1", client, body="amount=1", content_type=FORM)
    reference = first["Idempotency-Reference"]
    again = {"content_type": FORM}
    confirmed = f"amount=1&idempotency_confirm={reference}"
    assert word(ask("/atomic/", "K2", client, body="amount=1", **again)) == REFUSED
    assert word(ask("/atomic/", "K2", client, body=confirmed, **again)) == "201"
    # A copy of either form is the same operation.
    for body in (confirmed, "amount=1"):
        assert word(ask("/atomic/", "K2", client, body=body, **again)) == "201 replayed"


# The page of a refused form, and its way on


def press(url: str, key: str, fields: Any, enctype: str = FORM) -> Any:
    """As a browser sends a form; the files of one in parts come from open files."""
    browser = Browser().sign_in()
    token = hidden_fields(browser.visit("/form/"))["csrfmiddlewaretoken"]
    form = {"csrfmiddlewaretoken": token, "idempotency_key": key}
    if enctype == FORM:
        return browser.press(url, form | fields)
    return browser.client.post(url, form | fields)


def press_on(page: Any, url: str) -> Any:
    """What the button of a page sends, by a browser that has got nothing but the page."""
    fields, enctype = form_of(page)
    browser = Browser().sign_in()
    browser.client.cookies.update(page.cookies)
    if not enctype:
        return browser.press(url, fields)
    return browser.client.post(url, fields)


def form_of(page: Any) -> tuple[dict[str, list[str]], str]:
    text = page.content.decode()
    [(attributes, inside)] = re.findall(r"<form([^>]*)>(.*?)</form>", text, re.DOTALL)
    assert 'method="post"' in attributes
    assert "<button>" in inside
    fields: dict[str, list[str]] = {}
    for name, value in re.findall(r'name="([^"]*)" value="([^"]*)"', inside):
        fields.setdefault(unescape(name), []).append(unescape(value))
    return fields, "multipart" if "multipart/form-data" in attributes else ""


HOSTILE = {
    "amount": "1",
    "size": ["S", "L"],
    "note": 'Grüße\r\n"><script>alert(1)</script>&amp;',
    '"><b>': "'",
    "nothing": "",
}


def with_page(settings: Any, source: str) -> None:
    """Give the project a page of its own."""
    [templates] = settings.TEMPLATES
    pages = {"django_idempotency/possible-duplicate.html": source}
    loaders = [("django.template.loaders.locmem.Loader", pages)]
    options = {**templates["OPTIONS"], "loaders": loaders}
    settings.TEMPLATES = [{**templates, "APP_DIRS": False, "OPTIONS": options}]


@pytest.mark.parametrize("page_of", ["the package", "the how-to"])
@pytest.mark.parametrize("enctype", [FORM, "multipart"])
def test_page_lets_people_say_that_they_mean_it(
    enctype: str, page_of: str, settings: Any
) -> None:
    pressed: Any = HOSTILE
    if page_of == "the how-to":
        source = block("howto/catch-a-second-click", language="html+django")
        with_page(settings, source)
    for key in ("K1", "K2"):
        page = press("/form/", key, pressed, enctype)
    assert (page.status_code, orders()) == (409, 1)
    assert "no-store" in page["Cache-Control"]
    assert b"<script" not in page.content

    fields, kind = form_of(page)
    assert bool(kind) == (enctype != FORM)
    for name, value in HOSTILE.items():
        assert fields[name] == ([value] if isinstance(value, str) else value)
    assert fields["idempotency_key"] == ["K2"]

    # Pressed twice, and loaded anew: one order more.
    assert [press_on(page, "/form/").status_code for _ in range(3)] == [201] * 3
    assert orders() == 2
    # And nobody has meant a third.
    assert press("/form/", "K3", pressed, enctype).status_code == 409


def with_file() -> Any:
    return {"photo": SimpleUploadedFile("a.txt", b"much content")}


@cases(
    "url, fields, enctype",
    {
        "password": ("/form/", {"password1": "hunter-2"}, FORM),
        "security code": ("/form/", {"cvc": "hunter-2"}, FORM),
        "token": ("/form/", {"stripeToken": "hunter-2"}, FORM),
        "card, whatever its name": ("/form/", {"n": "4111 1111 1111 1111"}, FORM),
        "card in parts": ("/form/", {"n": "4111-1111-1111-1111"}, "multipart"),
        "named by the view": ("/sensitive/", {"diagnosis": "hunter-2"}, FORM),
        "all of the view": ("/all-sensitive/", {"amount": "hunter-2"}, FORM),
        "file": ("/form/", with_file, "multipart"),
    },
)
def test_page_holds_nothing_that_is_secret_or_no_text(
    url: str, fields: Any, enctype: str
) -> None:
    """Then it says to wait: after the window the form itself can be sent again."""
    for key in ("K1", "K2"):
        page = press(url, key, fields() if callable(fields) else fields, enctype)
    text = page.content.decode()

    assert page.status_code == 409
    assert "<form" not in text
    assert "wait a little" in text
    for secret in ("hunter-2", "4111", "much content"):
        assert secret not in text


def test_page_for_another_method_has_no_form() -> None:
    """A form of a page could send nothing but POST."""
    client = forgiving_client()
    for key in ("K1", "K2"):
        page = ask(
            "/atomic/", key, client, body="a=1", content_type=FORM, method="PUT",
            Accept=ACCEPT,
        )  # fmt: skip

    assert page.status_code == 409
    assert "<form" not in page.content.decode()


def test_page_of_the_package_in_place_of_a_broken_one_has_no_form(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It gets nothing of the project, so no token against forgery either."""
    with_page(settings, "{% include nothing %}")
    for key in ("K1", "K2"):
        page = press("/form/", key, {"amount": "1"})
    text = page.content.decode()

    assert caplog.records
    assert ("<form" in text, "wait a little" in text) == (False, True)


def test_client_in_python_confirms_what_its_caller_means() -> None:
    """The real client before the real view; the network between is shown elsewhere."""
    cookies = {"sessionid": signed_in_client().cookies["sessionid"].value}
    inner = httpx.WSGITransport(app=WSGIHandler())
    with httpx.Client(
        transport=IdempotentTransport(inner),
        cookies=cookies,
        base_url="http://testserver",
    ) as client:
        first = client.post("/service/", json={})
        assert possible_duplicate(first) is None
        duplicate = possible_duplicate(client.post("/service/", json={}))
        assert duplicate is not None
        assert duplicate.reference == first.headers["Idempotency-Reference"]
        assert (duplicate.about, orders()) == ("order 117", 1)

        for _ in range(2):
            again = client.post("/service/", json={}, headers=duplicate.confirmation)
            assert again.status_code == 201
        assert orders() == 2
        assert possible_duplicate(client.post("/service/", json={})) is not None


def test_guests_are_nobody_to_be_asked() -> None:
    other = GUEST_KEY.replace("f", "e")
    for key in (GUEST_KEY, other):
        assert word(ask("/atomic/", key, Client())) == "201"
    assert not OperationIntent.objects.exists()


@cases(
    "url, setting, then",
    {
        "neither": ("/default/", timedelta(0), "201"),
        "setting": ("/default/", WINDOW, REFUSED),
        "policy": ("/atomic/", timedelta(0), REFUSED),
        "off by policy": ("/off/", WINDOW, "201"),
    },
)
def test_policy_goes_before_the_setting(
    url: str, setting: timedelta, then: str
) -> None:
    with override_settings(IDEMPOTENCY_INTENT_WINDOW=setting):
        ask(url, "K1")
        assert word(ask(url, "K2")) == then


@cases("url, more", {"without": ("/default/", 0), "with": ("/atomic/", 1)})
def test_window_costs_one_statement_and_none_where_there_is_none(
    url: str, more: int
) -> None:
    client = forgiving_client()
    ask(url, "K0", client, body=b"0")
    with CaptureQueriesContext(
        connection,
    ) as queries:
        ask(url, "K1", client)
    ours = [q["sql"] for q in queries if "django_idempotency" in q["sql"]]
    assert sum("operationintent" in sql for sql in ours) == more
    assert len(ours) == 3 + more  # claim, what it is about, keep


def test_view_of_the_page_asks() -> None:
    code = block("howto/catch-a-second-click", "intent_window").replace(
        "...", "return place(request)"
    )
    view = run(code, {"place": place})["pay"]
    told = []
    for key in ("K1", "K2"):
        request = RequestFactory().post("/", headers={"Idempotency-Key": key})
        request.user = UserFactory.create(username="ann")
        told.append(word(view(request)))
    assert told == ["201", REFUSED]


def test_refusal_is_told_and_stands_in_the_story_of_the_first(
    admin_client: Client,
) -> None:
    heard: list[Any] = []

    def hear(operation: Any, **more: Any) -> None:
        heard.append(operation.reference)

    ask("/atomic/", "K1")
    signals.possible_duplicate.connect(hear)
    refused = ask("/atomic/", "K2")
    signals.possible_duplicate.disconnect(hear)

    assert heard == [refused["Idempotency-Reference"]]
    note = IdempotencyRecord.objects.get().history[-1]
    assert (note["what"], note["other"]) == ("possible_duplicate", heard[0])
    name = "admin:django_idempotency_idempotencyrecord_change"
    row = IdempotencyRecord.objects.get()
    page = admin_client.get(reverse(name, args=[row.pk])).content.decode()
    out = io.StringIO()
    call_command("idempotency_explain", str(row.pk), stdout=out)
    for told in (page, out.getvalue()):
        assert f"as {heard[0]}, and was refused as a possible duplicate" in told


def test_purge_takes_what_nobody_is_asked_about() -> None:
    ask("/atomic/", "K1")
    purge = Purge.of_intents(using="default", for_at_least=timedelta(0))
    assert purge.count() == 0
    OperationIntent.objects.update(expires_at=Now() - LEASE)
    purge = Purge.of_intents(using="default", for_at_least=timedelta(0))
    assert (purge.count(), list(purge.batches(10))) == (1, [1])
    assert word(ask("/atomic/", "K2")) == "201"


def test_first_one_whose_record_is_gone_is_in_nobodys_way() -> None:
    ask("/atomic/", "K1")
    IdempotencyRecord.objects.all().delete()
    assert word(ask("/atomic/", "K2")) == "201"
