"""The browser library on a page: real clicks, lost answers, and counts from the database."""

import uuid
from collections.abc import Callable

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from django_idempotency.models import IdempotencyRecord
from tests.browser.chromium import offline, press, until
from tests.browser.client.site import Site, Visit
from tests.support.records import states
from tests.support.threads import AT_THE_GATE, gate_closed, until_waiting
from tests.testapp.models import Order

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

REFUSED = """
    const sent = performance.getEntriesByType("resource");
    return sent.filter((each) => each.responseStatus === arguments[0]).length;
"""
"""How many requests of the page had this status; 0 is none."""


def carts() -> list[int]:
    """What was ordered, in this order."""
    return list(Order.objects.order_by("pk").values_list("amount", flat=True))


def keys() -> int:
    return IdempotencyRecord.objects.count()


def double_click(visit: Visit) -> None:
    button = visit.browser.find_element(By.TAG_NAME, "button")
    ActionChains(visit.browser).double_click(button).perform()


@pytest.mark.parametrize("event", ["lose", "drop"])
def test_lost_answer_is_asked_for_again(site: Site, visit: Visit, event: str) -> None:
    site.scene.next(event, 2)

    assert visit.pay() == "201 replayed"
    assert (carts(), keys()) == ([1], 1)


LOG_METHODS = """
    const send = globalThis.fetch;
    globalThis.sent = [];
    globalThis.fetch = (url, init) => (sent.push(init.method), send(url, init));
"""


@pytest.mark.parametrize(
    "path", ["/orders/", "/classic/", "http://shop.test:{}/shared/"]
)
def test_lost_answer_is_asked_for_and_nothing_is_sent_again(
    site: Site, visit: Visit, path: str
) -> None:
    """The answer of `/classic/` is a redirect; `shop.test` is another origin."""
    visit.open(f"?ask=true&to={path.format(site.port)}")
    visit.browser.execute_script(LOG_METHODS)
    site.scene.next("lose")

    said = "200 elsewhere" if path == "/classic/" else "201 replayed"
    assert (visit.pay(), visit.is_open) == (said, False)
    methods = visit.browser.execute_script("return sent")
    assert (methods[:2], methods.count("POST")) == (["POST", "GET"], 1)
    assert (carts(), keys()) == ([1], 1)


@pytest.mark.parametrize(
    ("text", "told", "orders"),
    [
        ("a long one", "Your file has arrived.", 1),
        ("scrambled", "Nobody can read it.", 0),
    ],
)
def test_page_of_the_documentation_asks_after_a_reload(
    site: Site, browser: WebDriver, text: str, told: str, orders: int
) -> None:
    """First while the upload is on, and then when it has arrived, or was refused."""

    def says(text: str) -> None:
        find = (By.CSS_SELECTOR, "[role=status]")
        until(browser, lambda page: text in page.find_element(*find).text)

    browser.get(f"{site.address}/upload/")
    browser.execute_script(f"document.forms[0].elements.text.value = '{text}'")
    with gate_closed() as gate:
        press(browser, browser.find_element(By.TAG_NAME, "button"))
        until_waiting(1, AT_THE_GATE)
        browser.refresh()
        says("We don't know yet")
        gate.open()
    until(browser, lambda page: states() == ["kept"])
    browser.refresh()

    says(told)
    assert (Order.objects.count(), keys()) == (orders, 1)


def test_key_per_try_orders_again(site: Site, visit: Visit) -> None:
    """The negative control: the same loss, and a fetch with a new key for each attempt."""
    site.scene.next("lose")
    fetch_twice = """
        const done = arguments[arguments.length - 1];
        const headers = () => ({
            "Content-Type": "application/json",
            "Idempotency-Key": crypto.randomUUID(),
            "X-CSRFToken": document.querySelector("input").value,
        });
        const body = '{"cart": 1}';
        async function send() {
            const init = { method: "POST", headers: headers(), body };
            const answer = await fetch("/orders/", init);
            return answer.text().then(() => answer.status);
        }
        send().catch(send).then(done);
    """

    assert visit.browser.execute_async_script(fetch_twice) == 201
    assert carts() == [1, 1]


def press_again(visit: Visit) -> None:
    """Stay on the page."""


def reload(visit: Visit) -> None:
    visit.browser.refresh()
    visit.ready()


def go_back(visit: Visit) -> None:
    here = visit.browser.current_url
    visit.browser.get(f"{visit.address}/orders/1/")
    visit.browser.back()
    until(visit.browser, lambda page: page.current_url == here)
    visit.ready()


@pytest.mark.parametrize("navigate", [press_again, reload, go_back])
@pytest.mark.parametrize(("event", "said"), [("lose", "TypeError"), ("replace", "404")])
def test_next_press_after_an_answer_that_is_not_ours_sends_the_same_key(
    site: Site, visit: Visit, event: str, said: str, navigate: Callable[[Visit], None]
) -> None:
    """FR-113: the app is started again, and the customer presses Pay again."""
    visit.open("?tries=1")
    site.scene.next(event)
    assert (visit.pay(), visit.is_open) == (said, True)

    navigate(visit)

    assert (visit.pay(), visit.is_open) == ("201 replayed", False)
    assert (carts(), keys()) == ([1], 1)


def test_redirect_of_the_view_ends_the_operation(site: Site, visit: Visit) -> None:
    visit.open("?to=/classic/")
    site.scene.next("lose")

    assert (visit.pay(), visit.is_open) == ("200 elsewhere", False)
    assert (visit.pay(cart="2"), visit.is_open) == ("200 elsewhere", False)
    assert (carts(), keys()) == ([1, 2], 2)


def test_edited_cart_takes_a_new_key(site: Site, visit: Visit) -> None:
    """FR-113: lost answer, retry, and then an edited cart."""
    site.scene.next("lose")

    assert [visit.pay(), visit.pay(cart="2")] == ["201 replayed", "201"]
    assert (carts(), keys()) == ([1, 2], 2)


def test_cart_edited_before_the_outcome_is_known_is_not_bought_beside_the_first(
    site: Site, visit: Visit
) -> None:
    """FR-115: a mismatch stops it, and is said."""
    visit.open("?tries=1")
    site.scene.next("lose")
    visit.pay()

    assert (visit.pay(cart="2"), visit.is_open) == ("422", False)
    assert carts() == [1]


def test_cart_edited_before_the_outcome_is_known_is_bought_if_the_first_was_not(
    visit: Visit,
) -> None:
    visit.open("?tries=1")
    offline(visit.browser, True)
    assert visit.pay() == "TypeError"
    offline(visit.browser, False)

    assert visit.pay(cart="2") == "201"
    assert carts() == [2]


def test_copy_of_what_is_in_flight_ends_with_the_replay(visit: Visit) -> None:
    """FR-115: on 409 in-flight it waits as long as Retry-After says, and asks again."""
    visit.open("?to=/impatient/")
    with gate_closed() as gate:
        double_click(visit)
        until_waiting(1, AT_THE_GATE)
        until(visit.browser, lambda page: page.execute_script(REFUSED, 409) >= 2)
        gate.open()
        answers = visit.answers(2)

    assert sorted(answers) == ["201", "201 replayed"]
    assert (carts(), keys()) == ([1], 1)


def test_double_click_orders_once(visit: Visit) -> None:
    double_click(visit)

    assert sorted(visit.answers(2)) == ["201", "201 replayed"]
    assert (carts(), keys()) == ([1], 1)


def test_press_without_a_network_is_sent_when_there_is_one(visit: Visit) -> None:
    offline(visit.browser, True)
    visit.press()
    until(visit.browser, lambda page: page.execute_script(REFUSED, 0) >= 1)
    offline(visit.browser, False)

    assert visit.answers(1) == ["201"]
    assert (carts(), keys()) == ([1], 1)


@pytest.mark.parametrize(
    "page",
    ["?to=/members/", "app/?to=/app/members/", "app/?base=/&to=members/"],
    ids=["plain", "stripped-prefix", "base"],
)
def test_operation_outlives_the_session_that_has_expired(
    site: Site, visit: Visit, page: str
) -> None:
    """The answer that leads to the sign-in page says nothing of the lost one."""
    sign_in(visit)
    visit.open(f"{page}&tries=1")
    site.scene.next("lose")
    visit.pay()
    visit.browser.delete_cookie(settings.SESSION_COOKIE_NAME)
    assert (visit.pay(), visit.is_open) == ("200 elsewhere", True)

    sign_in(visit)

    assert (visit.pay(), visit.is_open) == ("201 replayed", False)
    assert (carts(), keys()) == ([1], 1)


@pytest.mark.parametrize("browser", ["desktop", "phone"], indirect=True)
def test_page_that_is_not_secure_makes_unguessable_keys(
    site: Site, browser: WebDriver
) -> None:
    """Plain http by another name than localhost: there is no crypto.randomUUID."""
    visit = Visit(browser, f"http://shop.test:{site.port}").open()
    assert browser.execute_script(
        "return [isSecureContext, typeof crypto.randomUUID]"
    ) == [False, "undefined"]

    assert [visit.pay(), visit.pay(cart="2")] == ["201", "201"]

    versions = [uuid.UUID(each.key).version for each in IdempotencyRecord.objects.all()]
    assert versions == [4, 4]


@pytest.mark.parametrize(
    ("path", "said", "is_open"),
    [("shared", ["201", "201"], False), ("hidden", ["201", "422"], True)],
)
def test_other_origin_has_to_expose_what_the_documentation_names(
    site: Site, visit: Visit, path: str, said: list[str], is_open: bool
) -> None:
    """Without that no answer ends the operation, and the console says why."""
    visit.open(f"?to=http://shop.test:{site.port}/{path}/")

    assert [visit.pay(), visit.pay(cart="2")] == said
    assert visit.is_open is is_open
    told = visit.browser.get_log("browser")  # type: ignore[attr-defined]
    assert any("no header Idempotency-Ended" in each["message"] for each in told) is (
        is_open
    )


def test_strict_policy_lets_the_library_in(visit: Visit) -> None:
    """Every page of the site forbids what isn't in a file of its own."""
    visit.pay()

    assert visit.browser.get_log("browser") == []  # type: ignore[attr-defined]


def test_page_of_the_documentation_leads_to_the_order(site: Site, visit: Visit) -> None:
    site.scene.next("lose")
    visit.browser.get(f"{site.address}/documented/")
    visit.press()

    until(visit.browser, lambda page: page.title.startswith("Order"))
    assert visit.browser.title == f"Order {Order.objects.get().pk}"
    assert carts() == [7]


def test_page_of_the_documentation_says_what_to_do_when_offline(
    site: Site, visit: Visit
) -> None:
    visit.browser.get(f"{site.address}/documented/")
    script = "globalThis.fetch = () => Promise.reject(new TypeError('offline'))"
    visit.browser.execute_script(script)
    visit.browser.execute_script("globalThis.setTimeout = (call) => void call()")
    visit.press()
    status = visit.browser.find_element(By.CSS_SELECTOR, "[role=status]")

    until(visit.browser, lambda page: "you will not pay twice" in status.text)


def test_two_tabs_are_two_operations(visit: Visit) -> None:
    visit.pay()
    visit.browser.switch_to.new_window("tab")
    visit.open()

    assert visit.pay() == "201"
    assert (carts(), keys()) == ([1, 1], 2)


def sign_in(visit: Visit) -> None:
    client = Client()
    client.force_login(User.objects.get_or_create(username="ann")[0])
    name = settings.SESSION_COOKIE_NAME
    visit.browser.add_cookie({"name": name, "value": client.cookies[name].value})
