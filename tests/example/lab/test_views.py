"""The lab's addresses: who may start what, how often, and what is seen of it."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from example_project.theatre.lab import views
from example_project.theatre.lab.runs import Laboratory, Run

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("example_project.urls"),
]

PATIENCE_SECONDS = 30
KEY = "7f3c1f0e-6f0f-4a57-9d2c-0d9b6a0b7c11"


class Played:
    """A laboratory in which runs last until they are told to end."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.may_end = threading.Event()
        self.laboratory = Laboratory(self._play)

    def _play(self, run: Run) -> None:
        self.runs.append(run)
        for number in range(3):
            run.tell({"kind": "step", "number": number})
        assert self.may_end.wait(PATIENCE_SECONDS)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Iterator[Played]:
    played = Played()
    monkeypatch.setattr(views, "laboratory", lambda: played.laboratory)
    yield played
    played.may_end.set()


def press(
    client: Client, story: str = "storm", key: str = KEY, **headers: str
) -> Answer:
    return client.post(
        "/lab/runs/", {"story": story}, headers={"Idempotency-Key": key, **headers}
    )


def seen(client: Client, url: str, **headers: str) -> list[tuple[int, int]]:
    """The numbers of the events in the stream, and what they tell."""
    stream = client.get(url, headers=headers)
    text = b"".join(stream.streaming_content).decode()  # type: ignore[attr-defined]
    assert text.endswith("event: over\ndata:\n\n")
    events = [block.split("\n") for block in text.split("\n\n") if "id: " in block]
    return [
        (
            int(number.removeprefix("id: ")),
            json.loads(data.removeprefix("data: "))["number"],
        )
        for number, data in events
    ]


def test_second_click_gets_the_first_ones_run_and_where_its_events_are(
    client: Client, played: Played
) -> None:
    first, second = press(client), press(client)

    assert (first.status_code, first.json()["story"]) == (201, "storm")
    assert second.json() == first.json()
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(played.runs) == 1
    played.may_end.set()
    assert seen(client, first.json()["events"]) == [(0, 0), (1, 1), (2, 2)]


def test_another_start_meanwhile_is_shown_what_is_underway(
    client: Client, played: Played
) -> None:
    first = press(client)
    second = press(client, story="answer-lost", key=str(uuid.uuid4()))

    assert second.status_code == 409
    assert second.json()["story"] == "storm"
    assert second.json()["events"] == first.json()["events"]
    assert len(played.runs) == 1


@pytest.mark.parametrize(
    ("seen_before", "sent"), [("1", [(2, 2)]), ("²", [(0, 0), (1, 1), (2, 2)])]
)
def test_page_that_reconnects_gets_what_it_has_not_seen(
    client: Client, played: Played, seen_before: str, sent: list[tuple[int, int]]
) -> None:
    """All, if what it saw is nonsense."""
    url = press(client).json()["events"]
    played.may_end.set()

    assert seen(client, url, **{"Last-Event-ID": seen_before}) == sent


def test_unknown_story_and_a_start_without_a_key_are_refused(
    client: Client, played: Played
) -> None:
    assert press(client, story="arson").status_code == 400
    assert client.post("/lab/runs/", {"story": "storm"}).status_code == 400
    assert played.runs == []


@pytest.mark.parametrize("token", [True, False], ids=["stolen token", "no token"])
def test_other_sites_cannot_start_anything(played: Played, token: bool) -> None:
    client = Client(enforce_csrf_checks=True)
    client.get("/accounts/login/")
    csrf: dict[str, Any] = {"X-CSRFToken": client.cookies["csrftoken"].value}

    answer = press(client, Origin="http://shop.example", **(csrf if token else {}))

    assert answer.status_code == 403
    assert played.runs == []


def test_unknown_run_is_not_found(client: Client, played: Played) -> None:
    assert client.get(f"/lab/runs/{uuid.uuid4()}/events/").status_code == 404


def test_without_a_stage_the_page_says_how_to_get_one(client: Client) -> None:
    page = client.get("/lab/")

    assert page.status_code == 503
    assert "python manage.py demo --serve" in page.content.decode()
    assert press(client).status_code == 404


def test_beside_an_open_lab_the_page_leads_there(client: Client, settings: Any) -> None:
    settings.LAB_URL = "http://127.0.0.1:8001/lab/"

    assert client.get("/lab/").headers["Location"] == "http://127.0.0.1:8001/lab/"
