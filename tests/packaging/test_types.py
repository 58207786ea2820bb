"""What mypy says of strictly typed code that uses the package."""

import re
import subprocess
import sys

import pytest

from .readme import ROOT

pytestmark = pytest.mark.timeout(600)

SHOP = ROOT / "tests" / "packaging" / "typed_shop.py"

CONFIGURATION = """
[mypy]
strict = True
plugins = mypy_django_plugin.main, mypy_drf_plugin.main

[mypy.plugins.django-stubs]
django_settings_module = "tests.settings"

# Checked by itself.
[mypy-django_idempotency.*]
follow_imports = silent
[mypy-tests.*]
follow_imports = silent
"""


def no_json(function: str, returned: str, of: str = ' of "Idempotency"') -> str:
    method = f'"{function}"{of}'
    return f'Value of type variable "J" of {method} cannot be "{returned}"'


# What must not be written, and a part of what mypy says of it.
WRONG = {
    "steps.call('price', lambda key: Decimal(key))": no_json("call", "Decimal"),
    "steps.call('price', lambda key: key.encode())": no_json("call", "bytes"),
    "steps.call('charge', charge, if_unknown=lambda key: Decimal(key))": (
        'Incompatible return value type (got "Decimal", expected "Charge | None")'
    ),
    "steps.call('charge', charge, if_unknown='ignore')": (
        'No overload variant of "call" of "Idempotency" matches'
    ),
    "steps.write('user', lambda: User())": no_json("write", "User"),
    "steps.write('prices', lambda: {'mug': Decimal(9)})": no_json(
        "write", "dict[str, Decimal]"
    ),
    "steps.write('users', lambda: [User()])": no_json("write", "list[User]"),
    "steps.write('pair', lambda: (1, 2))": no_json("write", "tuple[int, int]"),
    "name: str = steps.write('order', order)": (
        'Incompatible types in assignment (expression has type "int", variable has type'
        ' "str")'
    ),
    "await steps.acall('price', aprice)": no_json("acall", "Decimal"),
    "await steps.awrite('user', lambda: User())": no_json("awrite", "User"),
    "run_once('price', lambda: Decimal(9))": no_json("run_once", "Decimal", of=""),
    "await arun_once('price', lambda: aprice(''), lease=policy.retention)": no_json(
        "arun_once", "Decimal", of=""
    ),
    "total: int = run_once('day', order, copies='skip')": (
        'Incompatible types in assignment (expression has type "int | None", variable'
        ' has type "int")'
    ),
    "idempotent_task(key=str)(lambda: User())": (
        'Value of type variable "F" of function cannot be "Callable[[], User]"'
    ),
    "webhook(providers.STRIPE, secrets=SECRET, max_attempt=3)": (
        'Unexpected keyword argument "max_attempt" for "webhook"'
    ),
    "webhook(providers.STRIPE, secrets=SECRET, ordered='yes')": (
        'Argument "ordered" to "webhook" has incompatible type "str"; expected "bool"'
    ),
    "idempotent(waits=policy.wait)": (
        'Unexpected keyword argument "waits" for overloaded function "idempotent"'
    ),
    "ninja.idempotent(waits=policy.wait)": (
        'Unexpected keyword argument "waits" for overloaded function "idempotent"'
    ),
    "CheckoutTests().assertIdempotent('/', copise=3)": (
        'Unexpected keyword argument "copise" for "assertIdempotent"'
    ),
    "CheckoutTests().hammer('/', copies='many')": (
        'Argument "copies" to "hammer" of "IdempotencyTestMixin" has incompatible type'
    ),
    "CheckoutTests().crashEverywhere('/', copies=3)": (
        'Unexpected keyword argument "copies" for "crashEverywhere"'
    ),
    "CheckoutTests().assertHandlerSafe(stripe_events, [], max_order=3)": (
        'Unexpected keyword argument "max_order" for "assertHandlerSafe"'
    ),
    "CheckoutTests().deliver('/', providers.STRIPE, SECRET, {}, header={})": (
        'Unexpected keyword argument "header" for "deliver"'
    ),
    "idempotent(intent_window=30)": (
        'No overload variant of "idempotent" matches argument type "int"'
    ),
    "possible_duplicate(b'')": (
        'Argument 1 to "possible_duplicate" has incompatible type "bytes"'
    ),
    "IdempotentAdapter(retries=3)": (
        'Argument "retries" to "IdempotentAdapter" has incompatible type "int"'
    ),
    "moving.HandWritten(order)": (
        'Argument 1 to "HandWritten" has incompatible type "Callable[[], int]"'
    ),
    "Refunds().idempotency.keys": '"Idempotency" has no attribute "keys"',
    "place(HttpRequest(), 1)": 'Argument 2 to "place" has incompatible type "int"',
    "django_idempotency.idempotents": (
        'Module has no attribute "idempotents"; maybe "idempotent"?'
    ),
    "IdempotencyRecord.objects.dead()": 'has no attribute "dead"',
    "Request(HttpRequest()).idempotency.key": (
        '"Request" has no attribute "idempotency"'
    ),
}


@pytest.fixture(scope="module")
def messages(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[int, str]:
    """What mypy says, by line of the shop with the wrong lines at its end."""
    folder = tmp_path_factory.mktemp("typed")
    shop = folder / "typed_shop.py"
    lines = [
        "from decimal import Decimal",
        "async def aprice(key: str) -> Decimal: return Decimal(9)",
        "async def wrong(steps: Idempotency) -> None:",
        *(f"    {line}" for line in WRONG),
    ]
    right = SHOP.read_text(encoding="utf-8")
    shop.write_text("\n".join([f"{right}{lines[0]}", *lines[1:], ""]))
    configuration = folder / "mypy.ini"
    configuration.write_text(CONFIGURATION)
    # Kept from one run of the tests to the next, since most of it is Django's.
    cache = request.config.cache.mkdir("mypy")
    done = subprocess.run(  # noqa: S603 - our own file
        [
            *(sys.executable, "-m", "mypy", "--config-file", configuration),
            *("--cache-dir", cache, "--no-error-summary", "--hide-error-context"),
            shop,
        ],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, ""), done.stdout + done.stderr
    found: dict[int, str] = {}
    for place, line, text in re.findall(r"^(.+?):(\d+): (.+)$", done.stdout, re.M):
        assert place.endswith(shop.name), f"{place}:{line}: {text}"
        found[int(line)] = f"{found.get(int(line), '')}{text}\n"
    return found


def first_wrong_line() -> int:
    return len(SHOP.read_text(encoding="utf-8").splitlines()) + 4


def test_strictly_typed_shop_is_right(messages: dict[int, str]) -> None:
    first = first_wrong_line()

    assert {line: text for line, text in messages.items() if line < first} == {}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_line_is_refused(messages: dict[int, str], line: str) -> None:
    number = first_wrong_line() + list(WRONG).index(line)

    assert WRONG[line] in messages.get(number, "")
