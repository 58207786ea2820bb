"""Our receivers, and what somebody would write by hand in their place; also a URLconf."""

import hashlib
import hmac
import json
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.webhooks import Event, providers, webhook
from django_idempotency.webhooks.inbox import Step, process_next
from tests.support.deliveries import SECRET
from tests.testapp.models import Order

COLUMNS = (
    "id, endpoint, source, account, event_id, event_type, object_key, body_digest,"
    " headers, occurred_at, payload, attempts, uncounted_attempts, last_error, reruns,"
    " history, is_ordered,"
    " state, received_at,"
    " expires_at"
)
INSERT = (
    f"INSERT INTO django_idempotency_processedevent ({COLUMNS}, next_attempt_at)"  # noqa: S608
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0, 0, '', '[]', '[]',"
    " false, 'received',"
    " clock_timestamp(), clock_timestamp() + interval '35 days', clock_timestamp())"
    " ON CONFLICT (id) DO NOTHING"
)


@webhook(providers.STRIPE, secrets=SECRET, endpoint="measured", inbox=True)
def ours(event: Event) -> None:
    work(event.data)


@webhook(providers.GOCARDLESS, secrets=SECRET, endpoint="measured-batch", inbox=True)
def batch(event: Event) -> None:
    work(event.data)


@csrf_exempt
def by_hand(request: HttpRequest) -> HttpResponse:
    body = request.body
    header = request.headers.get("Stripe-Signature", "")
    fields = dict(part.split("=", 1) for part in header.split(","))
    if abs(time.time() - int(fields["t"])) > 300:
        return HttpResponse(status=401)
    message = fields["t"].encode() + b"." + body
    expected = hmac.new(SECRET.encode(), message, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, fields["v1"]):
        return HttpResponse(status=401)
    event = json.loads(body)
    name = f"stripe:{event['livemode']}:{event['id']}"
    with connection.cursor() as cursor:
        cursor.execute(
            INSERT,
            [
                uuid.UUID(bytes=hashlib.sha256(name.encode()).digest()[:16]),
                "measured",
                "stripe",
                str(event["livemode"]),
                event["id"],
                event["type"],
                "",
                hashlib.sha256(body).hexdigest(),
                "{}",
                datetime.fromtimestamp(event["created"], UTC),
                body,
            ],
        )
    return HttpResponse()


def work(event: Any) -> None:
    """What the handler does: one write of the ORM's."""
    Order.objects.create(amount=len(event["type"]))


DUE = (
    "SELECT id FROM django_idempotency_processedevent"
    " WHERE next_attempt_at <= clock_timestamp() ORDER BY next_attempt_at LIMIT 1"
    " FOR UPDATE SKIP LOCKED"
)
BEGIN = (
    "UPDATE django_idempotency_processedevent SET attempts = attempts + 1,"
    " next_attempt_at = clock_timestamp() + interval '5 seconds' WHERE id = %s"
)
TAKE = (
    "SELECT payload, attempts FROM django_idempotency_processedevent WHERE id = %s"
    " AND next_attempt_at IS NOT NULL FOR UPDATE"
)
DONE = (
    "UPDATE django_idempotency_processedevent SET state = 'processed', payload = NULL,"
    " next_attempt_at = NULL, processed_at = clock_timestamp() WHERE id = %s"
)


def step_by_hand() -> bool:
    """Count the attempt and commit, then handle and mark: as safe as ours."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(DUE)
        row = cursor.fetchone()
        if row is None:
            return False
        cursor.execute(BEGIN, row)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(TAKE, row)
        payload, _ = cursor.fetchone()
        work(json.loads(bytes(payload)))
        cursor.execute(DONE, row)
    return True


def step() -> bool:
    return process_next() is not Step.NOTHING_DUE


STEPS = {"ours": step, "by_hand": step_by_hand}

urlpatterns = [
    path("ours/", ours),
    path("by-hand/", by_hand),
    path("batch/", batch),
]
