"""The longest durations that may be written are ones that every database can add."""

from argparse import ArgumentTypeError
from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path

from django_idempotency.checks.settings import check_settings
from django_idempotency.decorators import idempotent
from django_idempotency.management.durations import duration
from django_idempotency.policies import IdempotencyPolicy, PolicyOptions
from tests.support.ordering import ONCE, place_order, signed_in_client, words
from tests.support.records import states

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

DAY, CENTURY = timedelta(days=1), timedelta(days=36_500)
LONGER = timedelta(microseconds=1)


@idempotent(wait=DAY, retention=CENTURY)
def atomic(request: HttpRequest) -> HttpResponse:
    return place_order(request)


@idempotent(wait=DAY, retention=CENTURY, lease=CENTURY - DAY)
def leased(request: HttpRequest) -> HttpResponse:
    return place_order(request)


urlpatterns = [
    path("atomic/", atomic),
    path("leased/", leased),
]


@pytest.mark.parametrize("url", ["/atomic/", "/leased/"])
def test_longest_durations_work(url: str) -> None:
    assert words(signed_in_client(), url) == ONCE

    call_command("purge_idempotency_keys", "--older-than", "36500d")

    assert states() == ["kept"]


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"wait": DAY + LONGER}, "1 day"),
        ({"retention": CENTURY + LONGER}, "36500 days"),
        ({"retention": timedelta.max}, "36500 days"),
        ({"lease": CENTURY + LONGER}, "36500 days"),
    ],
    ids=["wait", "retention", "longest-retention", "lease"],
)
def test_longer_ones_are_refused_where_they_are_written(
    options: PolicyOptions, limit: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"not be longer than {limit}"):
        IdempotencyPolicy(**options)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IDEMPOTENCY_WAIT", DAY + LONGER),
        ("IDEMPOTENCY_RETENTION", CENTURY + LONGER),
        ("IDEMPOTENCY_EVENT_RETENTION", timedelta.max),
    ],
)
def test_longer_settings_are_reported(name: str, value: timedelta) -> None:
    with override_settings(**{name: value}):
        [message] = check_settings(None)

    assert (message.id, name in message.msg) == ("django_idempotency.E003", True)


@pytest.mark.parametrize("text", ["36501d", "3000000d"])
def test_purge_is_told_that_it_is_too_long(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is too long"):
        duration(text)
