"""What jobs say is handed to those who listen: by one thread for all, with a word when something may have been missed."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import msgspec
import pytest
import redis

from app.ledger import Claim, Ledger, Piece, Saying, Voice
from app.settings import Settings
from app.streams import _MOST_KEPT, Listener, Streams
from ops.waiting import wait_until
from tests.model_ledger import a_running_job

SOON_S = 10.0  # below the 15 s after which a follower looks by himself


@pytest.fixture
def streams(client: redis.Redis, settings: Settings) -> Iterator[Streams]:
    streaming = Streams(settings)
    yield streaming
    streaming.close()
    wait_until(lambda: client.pubsub_numsub("said")[0][1] == 0, timeout_s=SOON_S, what="the hearing to end")


def say(ledger: Ledger, claim: Claim, position: int, text: str, voice: Voice = Voice.CONTENT) -> None:
    assert ledger.say([Saying(claim, Piece(claim.attempt, position, voice, text))]) == [True]


def hearers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tandem-streams"]


def hears(client: redis.Redis) -> bool:
    return bool(client.pubsub_numsub("said")[0][1])


def told(listener: Listener) -> list[Piece]:
    """The next pieces."""
    taken: list[Piece] = []
    wait_until(lambda: taken.extend(listener.take()) or taken, timeout_s=SOON_S, what="a piece", every_s=0.005)
    return taken


# -- listeners


def test_a_listener_is_told_what_its_job_says_and_no_other(
        streams: Streams, ledger: Ledger, client: redis.Redis) -> None:
    claim, other = a_running_job(ledger), a_running_job(ledger)
    with streams.listener(claim.id) as first, streams.listener(claim.id) as second, streams.listener("x") as bystander:
        wait_until(lambda: hears(client), timeout_s=SOON_S, what="the process to hear")
        say(ledger, other, 2, "no")
        say(ledger, claim, 2, "hi")
        say(ledger, claim, 5, " \N{BALLOON}!")

        expected = [Piece(1, 2, Voice.CONTENT, "hi"), Piece(1, 5, Voice.CONTENT, " \N{BALLOON}!")]
        for listener in (first, second):
            pieces = told(listener)
            assert (pieces if len(pieces) == 2 else pieces + told(listener)) == expected
        assert bystander.take() == []


def test_all_listeners_of_a_process_share_one_thread_which_ends_after_the_last(streams: Streams) -> None:
    before = set(hearers())
    with ExitStack() as listeners:
        for number in range(50):
            listeners.enter_context(streams.listener(f"job-{number % 7}"))
        (hearer,) = set(hearers()) - before
    assert not streams._listeners
    wait_until(lambda: not hearer.is_alive(), timeout_s=SOON_S, what="the thread to end")


def test_a_listener_that_takes_nothing_keeps_no_more_than_so_much_and_is_told_to_look() -> None:
    listener = Listener()
    listener.look = False
    for position in range(_MOST_KEPT + 10):
        listener.tell(Piece(1, position, Voice.CONTENT, "x"))

    assert listener.look
    assert len(listener.take()) == _MOST_KEPT


def test_a_listener_is_told_to_look_each_time_the_hearing_begins(
        streams: Streams, client: redis.Redis) -> None:
    with streams.listener("a") as listener:
        wait_until(lambda: hears(client), timeout_s=SOON_S, what="the process to hear")
        wait_until(listener.something.is_set, timeout_s=SOON_S, what="the first subscription to be told")
        listener.take()
        listener.look = False
        client.client_kill_filter(_type="pubsub")
        wait_until(lambda: listener.look, timeout_s=SOON_S, what="the second to be told")


def test_what_is_published_by_a_tandem_of_another_version_sends_the_listeners_to_the_ledger(
        streams: Streams, client: redis.Redis, ledger: Ledger) -> None:
    claim = a_running_job(ledger)
    with streams.listener(claim.id) as listener:
        wait_until(lambda: hears(client), timeout_s=SOON_S, what="the process to hear")
        for payload in (b"", b"\xc1", b"\x91\x01", msgspec.msgpack.encode([[claim.id, "1", "2", "shout", "hi"]])):
            listener.take()
            listener.look = False
            client.publish("said", payload)
            wait_until(lambda: listener.look, timeout_s=SOON_S, what="a look to be asked for")
        listener.take()
        say(ledger, claim, 2, "hi")
        assert told(listener) == [Piece(1, 2, Voice.CONTENT, "hi")]
