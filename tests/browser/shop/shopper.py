"""A person at a browser, with the shop's words for what can be done there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from selenium.common.exceptions import TimeoutException
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement

from example_project.theatre.demo.stage import Customer
from tests.browser.chromium import complaints, press, until

GOOD_CARD = "pm_card_visa"
DECLINED_CARD = "pm_card_chargeCustomerFail"

#: What Chromium says of a page with an error status, which is no error of the page's.
_STATUS = "Failed to load resource: the server responded with a status of "


@dataclass(frozen=True)
class Shopper:
    driver: WebDriver
    shop_url: str

    # Pages

    def open(self, path: str) -> None:
        self.driver.get(f"{self.shop_url}{path}")

    @property
    def path(self) -> str:
        return self.driver.current_url.removeprefix(self.shop_url)

    @property
    def heading(self) -> str:
        return self.find("h1").text

    @property
    def text(self) -> str:
        return self.find("main").text

    @property
    def key(self) -> str | None:
        return self.find("main [name=idempotency_key]").get_attribute("value")

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def run(self, script: str, *arguments: object) -> Any:
        """Run it in the page, and return what it does."""
        return self.driver.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        """What the browser found wrong with the pages since it was last asked."""
        return [each for each in complaints(self.driver) if _STATUS not in each]

    # Forms

    def button(self, words: str) -> WebElement:
        """The first button or link on the page that begins so."""
        found = f"//main//*[self::button or self::a][starts-with(normalize-space(), '{words}')]"
        return self.driver.find_element(By.XPATH, found)

    def press(self, words: str) -> None:
        """Press it, and wait for the page that follows."""
        button = self._in_view(self.button(words))
        self.leave_page(lambda: press(self.driver, button))

    def press_twice(self, words: str) -> None:
        """Press it twice in a tenth of a second, and wait for the page that follows.

        Two clicks in the same instant Chromium makes one of.
        """
        clicks = ActionChains(self.driver, duration=0)
        clicks.click(self._in_view(self.button(words))).pause(0.1).click()
        self.leave_page(clicks.perform)

    def leave_page(self, act: Callable[[], object]) -> None:
        """Act, and wait for the page to be another."""
        page = self.find("html")
        act()
        try:
            until(self.driver, lambda _: self._is_gone(page))
        except TimeoutException:
            shown = self.driver.find_element(By.TAG_NAME, "body").text
            raise AssertionError(f"No page followed on {self.path}:\n{shown}") from None

    def fill_in(self, name: str, value: str) -> None:
        field = self.find(f"main [name={name}]")
        field.clear()
        field.send_keys(value)

    def choose_card(self, card: str) -> None:
        button = self._in_view(self.find(f"[name=payment_method][value={card}]"))
        press(self.driver, button)

    def press_key(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, words: str) -> WebElement:
        """Go to what is called so, by the Tab key alone."""
        for _ in range(40):
            self.press_key(Keys.TAB)
            reached = self.driver.switch_to.active_element
            if (reached.accessible_name or "").startswith(words):
                return reached
        raise AssertionError(f"Tab does not lead to {words!r}.")

    # Errands

    def fill_cart(self, *products: str) -> None:
        for product in products:
            self.open("/shop/")
            self.press(f"Add to cart {product}")

    def go_to_checkout(self, *products: str, email: str | None = None) -> None:
        """Open the form with which these are paid, and fill it in."""
        self.fill_cart(*products)
        self.press("Go to checkout")
        if email:
            self.fill_in("email", email)

    def sign_in(self, customer: Customer) -> None:
        """On the page for it, which may be open already."""
        if not self.path.startswith("/accounts/login/"):
            self.open("/accounts/login/")
        self.fill_in("username", customer.name)
        self.fill_in("password", customer.password)
        self.press("Sign in")

    def _in_view(self, element: WebElement) -> WebElement:
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        return element

    def _is_gone(self, page: WebElement) -> bool:
        is_loaded: bool = self.run("return document.readyState === 'complete'")
        return is_loaded and self.find("html") != page
