"""What an engine tells while it works: gathered, said in few calls, and never in the engine's way."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from app.job import Service, State
from app.ledger import Claim, Ledger, Piece, Saying, Voice, new_owner
from app.settings import Settings
from app.store import open_redis
from ops.embedded_redis import free_port, start
from ops.sandbox import kill
from ops.waiting import wait_until
from tests.model_ledger import PLACE, a_running_job
from workers.engine import Channel
from workers.node import Node
from workers.speech import Speech

SOON_S = 10.0
UNHEARD_S = 60.0  # between two beats: what is learnt sooner is not learnt from a beat


class Counting(Ledger):
    """A ledger that notes what it is asked to say."""

    calls: list[list[Saying]]

    def say(self, sayings: Sequence[Saying]) -> list[bool]:
        self.calls.append(list(sayings))
        return super().say(sayings)


@pytest.fixture
def counting(client: redis.Redis, settings: Settings) -> Counting:
    ledger = Counting(client, settings)
    ledger.calls = []
    return ledger


@pytest.fixture
def lost() -> list[Claim]:
    return []  # claims, as they turn out to be lost


@pytest.fixture
def speech(counting: Counting, lost: list[Claim]) -> Iterator[Speech]:
    speaking = Speech(counting, lost.append)
    yield speaking
    speaking.stop()


def said(ledger: Ledger, claim: Claim) -> str:
    return "".join(piece.text for piece in ledger.said(claim.id).pieces)


def wait_for(ledger: Ledger, claim: Claim, text: str) -> list[Piece]:
    wait_until(lambda: said(ledger, claim) == text, timeout_s=SOON_S, what=f"'{text}' to be said", every_s=0.005)
    return ledger.said(claim.id).pieces


# -- said


def test_what_an_engine_tells_is_said_in_order_with_its_place_in_the_whole_text(speech: Speech, ledger: Ledger) -> None:
    claim = a_running_job(ledger)
    with speech.of(claim) as tell:
        tell(Channel.REASONING, "hm")
        tell(Channel.REASONING, " \N{BALLOON}")
        tell(Channel.CONTENT, "so")
        pieces = wait_for(ledger, claim, "hm \N{BALLOON}so")
        tell(Channel.CONTENT, "!")
        wait_for(ledger, claim, "hm \N{BALLOON}so!")

    assert pieces == [Piece(1, 0, Voice.STARTED, ""), Piece(1, 4, Voice.REASONING, "hm \N{BALLOON}"),
                      Piece(1, 6, Voice.CONTENT, "so")]
    assert ledger.said(claim.id).total == 7


def test_an_attempt_that_says_nothing_for_long_is_said_to_have_started(speech: Speech, ledger: Ledger) -> None:
    claim = a_running_job(ledger)
    with speech.of(claim):
        wait_until(lambda: ledger.said(claim.id).pieces == [Piece(1, 0, Voice.STARTED, "")], timeout_s=SOON_S,
                   what="the start to be said")


def test_what_many_attempts_tell_at_a_time_is_said_in_one_call(
        speech: Speech, ledger: Ledger, counting: Counting) -> None:
    claims = [a_running_job(ledger) for _ in range(20)]
    with ExitStack() as all_of_them:
        tells = [all_of_them.enter_context(speech.of(claim)) for claim in claims]
        wait_until(lambda: all(ledger.said(claim.id).pieces for claim in claims), timeout_s=SOON_S, what="all to start")
        before = len(counting.calls)
        for token in range(50):
            for tell in tells:
                tell(Channel.CONTENT, f"{token} ")
        whole = "".join(f"{token} " for token in range(50))
        for claim in claims:
            wait_for(ledger, claim, whole)

    assert len(counting.calls) - before <= 10, "a thousand tokens"


def test_a_job_that_is_done_before_anything_is_sent_says_nothing_and_costs_no_call(
        speech: Speech, ledger: Ledger, counting: Counting) -> None:
    for _ in range(20):
        with speech.of(a_running_job(ledger)) as tell:
            tell(Channel.CONTENT, "hello")
    long = a_running_job(ledger)
    with speech.of(long) as tell:
        tell(Channel.CONTENT, "hello")
        wait_for(ledger, long, "hello")

    assert {saying.claim.id for call in counting.calls for saying in call} == {long.id}


def test_nothing_is_sent_while_nobody_speaks(speech: Speech, ledger: Ledger, counting: Counting) -> None:
    claim = a_running_job(ledger)
    with speech.of(claim) as tell:
        tell(Channel.CONTENT, "hello")
        wait_for(ledger, claim, "hello")
        wait_until(lambda: not speech._wanted.is_set(), timeout_s=SOON_S, what="the speech to be silent")
        before = len(counting.calls)
        assert not speech._wanted.wait(0.3)

    assert len(counting.calls) == before


def test_what_is_told_after_the_answer_or_as_nothing_is_not_said(
        speech: Speech, ledger: Ledger, counting: Counting) -> None:
    claim = a_running_job(ledger)
    with speech.of(claim) as tell:
        tell(Channel.CONTENT, "")
        tell(Channel.CONTENT, "hello")
        wait_for(ledger, claim, "hello")
    tell(Channel.CONTENT, " too late")
    other = a_running_job(ledger)
    with speech.of(other) as tell:
        tell(Channel.CONTENT, "x")
        wait_for(ledger, other, "x")

    assert said(ledger, claim) == "hello"
    assert len(ledger.said(claim.id).pieces) == 2


def test_what_cannot_be_said_silences_its_own_attempt_alone(speech: Speech, ledger: Ledger) -> None:
    bad, good = a_running_job(ledger), a_running_job(ledger)
    with speech.of(bad) as tell_bad, speech.of(good) as tell_good:
        tell_bad(Channel.CONTENT, "fine")
        wait_for(ledger, bad, "fine")
        tell_bad(Channel.CONTENT, "\ud83d")
        tell_good(Channel.CONTENT, "hello")
        wait_for(ledger, good, "hello")
        tell_bad(Channel.CONTENT, "too late")

    assert said(ledger, bad) == "fine"


def test_what_redis_refuses_of_one_attempt_does_not_silence_the_others(
        speech: Speech, ledger: Ledger, client: redis.Redis, lost: list[Claim]) -> None:
    bad, good = a_running_job(ledger), a_running_job(ledger)
    client.set(f"said:{bad.id}", "no stream")
    with speech.of(bad) as tell_bad:
        tell_bad(Channel.CONTENT, "never")
        wait_until(lambda: speech._unsent, timeout_s=SOON_S, what="a call to fail")
        with speech.of(good) as tell_good:
            tell_good(Channel.CONTENT, "hello")
            wait_for(ledger, good, "hello")

    assert lost == []


# -- stopped


def test_an_attempt_whose_job_was_taken_from_it_is_lost_as_soon_as_it_speaks(
        speech: Speech, ledger: Ledger, lost: list[Claim]) -> None:
    claim, other = a_running_job(ledger), a_running_job(ledger)
    with speech.of(claim) as tell, speech.of(other) as tell_other:
        ledger.cancel(claim.id)
        tell(Channel.CONTENT, "hello")
        tell_other(Channel.CONTENT, "hello")
        wait_until(lambda: lost == [claim], timeout_s=SOON_S, what="the attempt to be lost")
        wait_for(ledger, other, "hello")

    assert lost == [claim], "once, and the other not at all"


def test_an_attempt_that_has_come_to_its_answer_is_not_lost_whatever_was_still_unsaid(
        speech: Speech, ledger: Ledger, lost: list[Claim], counting: Counting) -> None:
    claim, other = a_running_job(ledger), a_running_job(ledger)
    with speech.of(other) as tell_other:
        with speech.of(claim) as tell:
            tell(Channel.CONTENT, "hello")
            wait_for(ledger, claim, "hello")
            tell(Channel.CONTENT, " there")
        ledger.settle(claim, State.SUCCEEDED)
        tell_other(Channel.CONTENT, "hello")
        wait_for(ledger, other, "hello")

    assert lost == []


@pytest.fixture
def node(ledger: Ledger, settings: Settings) -> Iterator[Node]:
    """A node that hears, and hardly ever beats."""
    client = open_redis(settings)
    here = Node(ledger, replace(settings, beat_s=UNHEARD_S), PLACE, services=(Service.MODEL,), processors=("P2",), slots=2)
    here.start()
    wait_until(lambda: client.pubsub_numsub(f"stopped:{PLACE.worker}")[0][1] == 1, timeout_s=SOON_S,
               what="the node to hear")
    wait_until(lambda: client.exists(f"worker:{PLACE.worker}"), timeout_s=SOON_S, what="the first beat to be over")
    yield here
    here.stop()
    wait_until(lambda: client.pubsub_numsub(f"stopped:{PLACE.worker}")[0][1] == 0, timeout_s=SOON_S,
               what="the node to hear no more")


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_a_worker_hears_at_once_that_its_job_was_cancelled_or_is_too_late(
        node: Node, ledger: Ledger, how: str) -> None:
    claim, other = a_running_job(ledger, deadline_s=60.0), a_running_job(ledger)
    running, going_on, waiting = node.enter(claim), node.enter(other), threading.Event()
    node.wake_when_lost(claim, waiting)

    if how == "cancel":
        ledger.cancel(claim.id)
    else:
        ledger.now_ms = claim.created_ms + 60_000
        ledger.expire()

    assert running.lost.wait(SOON_S)
    assert waiting.wait(SOON_S), "code that waits for something else has to be woken"
    assert not going_on.lost.is_set()


def test_an_earlier_attempt_that_is_stopped_leaves_the_later_one_alone(node: Node, ledger: Ledger) -> None:
    first = a_running_job(ledger)
    ledger.release(first, because="drain")
    second = ledger.claim(first.id, PLACE, owner=new_owner())
    assert isinstance(second, Claim)
    old, new = node.enter(first), node.enter(second)
    node.lose(first)

    assert old.lost.is_set()
    assert not new.lost.is_set()


# -- Redis away


def test_while_redis_is_away_what_is_told_is_kept_and_then_said_once(tmp_path: Path) -> None:
    port = free_port()
    server = start(tmp_path, port=port)
    settings = Settings(redis_url=server.url, redis_timeout_s=1.0)
    ledger, lost = Ledger(open_redis(settings), settings), []
    speech = Speech(ledger, lost.append)
    claim = a_running_job(ledger)

    with speech.of(claim) as tell:
        tell(Channel.CONTENT, "before")
        wait_for(ledger, claim, "before")
        kill(server.process.pid)
        server.process.wait()
        tell(Channel.CONTENT, " meanwhile")
        wait_until(lambda: speech._unsent, timeout_s=SOON_S, what="a call to fail")
        tell(Channel.CONTENT, " still")
        server = start(tmp_path, port=port)
        wait_until(lambda: ledger.said(claim.id).total == len("before meanwhile still"), timeout_s=SOON_S,
                   what="everything to be said")

    assert said(ledger, claim) == "before meanwhile still"
    assert lost == []
    speech.stop()
    server.stop()


def test_a_worker_hears_of_stops_again_after_redis_was_killed(tmp_path: Path) -> None:
    port = free_port()
    server = start(tmp_path, port=port)
    settings = Settings(redis_url=server.url, redis_timeout_s=1.0, beat_s=UNHEARD_S)
    client = open_redis(settings)
    ledger = Ledger(client, settings)
    node = Node(ledger, settings, PLACE, services=(Service.MODEL,), processors=("P2",), slots=2)
    node.start()
    kill(server.process.pid)
    server.process.wait()
    server = start(tmp_path, port=port)
    wait_until(lambda: client.pubsub_numsub(f"stopped:{PLACE.worker}")[0][1] == 1, timeout_s=SOON_S,
               what="the node to hear again")
    running = node.enter(a_running_job(ledger))

    ledger.cancel(running.claim.id)
    assert running.lost.wait(SOON_S)
    node.stop()
    server.stop()
