"""Nodes that lag, stand still, are killed or left alone: nothing is done twice or lost."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from tests.concurrency.galera.clients import (
    Client,
    clients,
    execute,
    one_order_each,
    order_counts,
    status,
)
from tests.concurrency.galera.shop import SENDS, SHAPES, scene
from tests.support import galera
from tests.support.client import Answer, new_key
from tests.support.threads import TIMEOUT, until
from tests.testapp.models import Cart

pytestmark = [
    pytest.mark.galera,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.concurrency.galera.shop"),
]


@pytest.fixture(autouse=True)
def _fresh_scene() -> None:
    scene.reset()


def is_whole() -> bool:
    """Whether the cluster has all its nodes, and each of them serves clients."""
    with clients() as crew:
        return all(
            each.do(partial(status, "cluster_size")) == str(galera.SIZE)
            and each.do(partial(status, "ready")) == "ON"
            for each in crew
        )


@pytest.fixture
def cluster(transactional_db: None) -> Iterator[galera.Cluster]:
    """A cluster whose nodes are all back at the end, before the tables are emptied."""
    found = galera.running[0]
    yield found
    connection.close()
    for node in found.nodes:
        node.go_on()
        if not node.is_running:
            node.start()
    until(is_whole)


# A node that lags


@contextmanager
def behind(crew: list[Client]) -> Iterator[None]:
    """Let the last one's node apply nothing of what the others commit."""
    holder = Client(crew[-1].node)
    holder.do(partial(execute, "LOCK TABLES testapp_cart READ"))
    crew[0].do(Cart.objects.create)
    try:
        yield
    finally:
        holder.do(partial(execute, "UNLOCK TABLES"))
        holder.end()


def until_it_hangs(client: Client, session: int, act: Future[Answer]) -> None:
    """Return when that session waits for its node, or needn't."""
    hangs = (
        "SELECT count(*) FROM information_schema.processlist"  # noqa: S608
        f" WHERE id = {session} AND command <> 'Sleep' AND time_ms > 100"
    )
    until(lambda: act.done() or client.do(partial(execute, hangs))[0][0] > 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_repeat_on_a_node_that_lags_is_a_replay(shape: str) -> None:
    key = new_key()
    send = partial(SENDS[shape], key)
    with clients() as crew, clients() as watchers:
        with behind(crew):
            first = crew[0].do(send)
            ((session,),) = crew[-1].do(partial(execute, "SELECT connection_id()"))
            repeating = crew[-1].begin(send)
            until_it_hangs(watchers[-1], session, repeating)
            assert not repeating.done()
        repeat = repeating.result(TIMEOUT)

    assert (repeat.status, repeat.body) == (first.status, first.body)
    assert scene.begun == {key: 1}
    assert order_counts() == one_order_each([key])


# Owners that are too slow


def test_lease_is_taken_over_on_another_node() -> None:
    """The late owner comes back when another node's copy has done its work."""
    key = new_key()
    entered, go_on = threading.Event(), threading.Event()

    def stand_still() -> None:
        entered.set()
        assert go_on.wait(TIMEOUT)

    scene.acts.append(stand_still)
    send = partial(SENDS["short-lease"], key)
    with clients(16) as crew:
        owner, *copies = crew
        late = owner.begin(send)
        assert entered.wait(TIMEOUT)
        elsewhere = [each.begin(send) for each in copies if each.node != owner.node]
        answers = [each.result(TIMEOUT) for each in elsewhere]
        go_on.set()
        late_word = late.result(TIMEOUT).word

    words = Counter(each.word for each in answers)
    assert words == {"201": 1, "201 replayed": len(answers) - 1}
    assert late_word == "409 in-flight"
    assert (scene.begun[key], len(scene.charges[key])) == (2, 1)
    assert IdempotencyRecord.objects.get().attempts == 2
    assert order_counts() == one_order_each([key])


# Nodes that are gone


@contextmanager
def in_mid_view(client: Client, key: str) -> Iterator[Callable[[], Answer]]:
    """Let a client stand in its view; what is yielded lets it go on."""
    entered, go_on = threading.Event(), threading.Event()

    def stand_still() -> None:
        entered.set()
        assert go_on.wait(2 * TIMEOUT)

    scene.acts.append(stand_still)
    answer = client.begin(partial(SENDS["atomic"], key))
    assert entered.wait(TIMEOUT)

    def finish() -> Answer:
        go_on.set()
        return answer.result(TIMEOUT)

    try:
        yield finish
    finally:
        go_on.set()


def word(client: Client, key: str) -> str:
    return client.do(partial(SENDS["atomic"], key)).word


def test_node_that_is_killed_leaves_each_key_free_and_done_once(
    cluster: galera.Cluster,
) -> None:
    keys = [new_key() for _ in range(5)]
    with clients(2 * galera.SIZE) as crew:
        first, dying, waiting = crew[0], crew[2], crew[5]
        assert word(waiting, keys[0]) == "201"
        with in_mid_view(dying, keys[1]) as finish:
            cluster.nodes[dying.node].stop(kill=True)
            assert finish().status == 500
        # On a connection that was open, and on one that can't be made.
        gone = [word(waiting, keys[2]), word(waiting, keys[2])]
        told = [word(first, key) for key in keys[:4]]

    assert gone == ["503 store-unavailable"] * 2
    assert told == ["201 replayed", "201", "201", "201"]
    cluster.nodes[2].start()
    until(is_whole)
    with clients() as crew:
        assert word(crew[2], keys[4]) == "201"
    assert order_counts() == one_order_each(keys)


def test_node_without_a_majority_does_nothing(cluster: galera.Cluster) -> None:
    """The others stand still, which is no other thing than a network that is cut."""
    keys = [new_key() for _ in range(3)]
    with clients(2 * galera.SIZE) as crew:
        alone, beside = crew[0], crew[3]
        with in_mid_view(alone, keys[0]) as finish:
            for node in cluster.nodes[1:]:
                node.stand_still()
            until(lambda: beside.do(partial(status, "cluster_status")) != "Primary")
            refused = word(beside, keys[1])
            assert finish().status == 500
    for node in cluster.nodes:
        node.go_on()
    until(is_whole)

    assert refused == "503 store-unavailable"
    with clients() as crew:
        assert [word(crew[1], key) for key in keys] == ["201"] * 3
    assert order_counts() == one_order_each(keys)
