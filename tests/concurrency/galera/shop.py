"""What clients of a cluster ask for, in each shape; also a URLconf.

All nodes are served in this process, so that one scene knows how often the work of a key
has begun, wherever that was.
"""

import threading
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from django_idempotency.webhooks import Event, providers, webhook
from tests.support import galera
from tests.support.client import Answer, post
from tests.support.deliveries import SECRET, deliver, stripe
from tests.testapp.models import Order

LEASE = timedelta(seconds=2)


class Scene:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.lock = threading.Lock()
        self.begun: Counter[str] = Counter()
        """How often the work of a key has begun, on whatever node."""
        self.charges: dict[str, set[str]] = defaultdict(set)
        """By key, under which keys of ours a provider was asked."""
        self.acts: deque[Callable[[], object]] = deque()
        """What the next executions do in the middle of their work."""
        self.failing: set[int] = set()
        """The nodes on which the work fails."""

    def begin(self, key: str) -> None:
        with self.lock:
            self.begun[key] += 1

    def act(self) -> None:
        with self.lock:
            act = self.acts.popleft() if self.acts else None
        if act is not None:
            act()
        if node() in self.failing:
            raise ValueError


scene = Scene()


def node() -> int:
    """The number of the node that this thread is connected to."""
    ports = [each.port for each in galera.running[0].nodes]
    return ports.index(connection.settings_dict["PORT"])


def number_of(key: str) -> int:
    """Return the amount by which the orders of a key are counted."""
    return zlib.crc32(key.encode()) >> 1


def place(key: str) -> int:
    return int(Order.objects.create(amount=number_of(key)).pk)


def unprotected(request: HttpRequest) -> HttpResponse:
    key = request.headers["Idempotency-Key"]
    scene.begin(key)
    return JsonResponse({"order": place(key)}, status=201)


@idempotent
def atomic(request: IdempotentRequest) -> HttpResponse:
    key = str(request.idempotency.key)
    scene.begin(key)
    order = place(key)
    with suppress(ZeroDivisionError), transaction.atomic():
        # A savepoint within a transaction that is streamed.
        Order.objects.create()
        raise ZeroDivisionError
    scene.act()
    return JsonResponse({"order": order}, status=201)


@idempotent(intent_window=timedelta(minutes=1))
def with_intent(request: IdempotentRequest) -> HttpResponse:
    scene.begin(request.body.decode())
    return JsonResponse({"order": place("")}, status=201)


@csrf_exempt
def of_one_user(request: Any) -> HttpResponse:
    request.user = User(pk=1)
    return with_intent(request)


def leased(request: IdempotentRequest) -> HttpResponse:
    key = str(request.idempotency.key)
    scene.begin(key)
    request.idempotency.call("charge", scene.charges[key].add)
    scene.act()
    order = request.idempotency.write("order", partial(place, key))
    return JsonResponse({"order": order}, status=201)


@idempotent(lease=timedelta(minutes=1), wait=timedelta(0))
def in_many_steps(request: IdempotentRequest) -> HttpResponse:
    key = str(request.idempotency.key)
    scene.begin(key)
    scene.act()
    for number in range(20):
        request.idempotency.write(f"step {number}", partial(place, f"{key} {number}"))
    return JsonResponse({"order": place(key)}, status=201)


def handle(event: Event) -> None:
    scene.begin(event.id)
    place(event.id)
    scene.act()


def receiver(endpoint: str, **options: Any) -> Any:
    return webhook(providers.STRIPE, secrets=SECRET, endpoint=endpoint, **options)(
        handle
    )


urlpatterns = [
    path("unprotected/", csrf_exempt(unprotected)),
    path("atomic/", csrf_exempt(atomic)),
    path("leased/", csrf_exempt(idempotent(lease=timedelta(minutes=1))(leased))),
    path("short-lease/", csrf_exempt(idempotent(lease=LEASE)(leased))),
    path("in-many-steps/", csrf_exempt(in_many_steps)),
    path("with-intent/", of_one_user),
    path("inline/", receiver("inline")),
    path("inbox/", receiver("inbox", inbox=True)),
]


def deliver_event(path: str, key: str) -> Answer:
    response = deliver(path, stripe(key))
    return Answer(status=response.status_code, headers={}, body=response.content)


SENDS: dict[str, Callable[[str], Answer]] = {
    "unprotected": partial(post, "/unprotected/"),
    "atomic": partial(post, "/atomic/"),
    "leased": partial(post, "/leased/"),
    "short-lease": partial(post, "/short-lease/"),
    "in-many-steps": partial(post, "/in-many-steps/"),
    "inline": partial(deliver_event, "/inline/"),
    "inbox": partial(deliver_event, "/inbox/"),
}
SHAPES = ("atomic", "leased", "inline")
