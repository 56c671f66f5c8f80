"""What running jobs say: kept in order, said by the owner alone, once, and told to those who listen."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import redis

from app.job import State
from app.ledger import Claim, Ledger, Piece, Said, Saying, Voice, new_owner
from app.ledger.ledger import _PAGE
from app.settings import Settings
from tests.model_ledger import PLACE, a_job, a_running_job, everything

HOUR_MS = 3_600_000


def started(attempt: int = 1) -> Piece:
    return Piece(attempt, 0, Voice.STARTED, "")


def content(position: int, text: str, attempt: int = 1) -> Piece:
    return Piece(attempt, position, Voice.CONTENT, text)


def say(ledger: Ledger, claim: Claim, *pieces: Piece) -> list[bool]:
    return ledger.say([Saying(claim, piece) for piece in pieces])


def heard(hearing: redis.client.PubSub) -> list[list[list[str]]]:
    """Everything published so far, message by message."""
    messages = []
    while message := hearing.get_message(timeout=0.2):
        if message["type"] == "message":
            messages.append(msgspec.msgpack.decode(message["data"]))
    return messages


@pytest.fixture
def hearing(client: redis.Redis) -> Iterator[redis.client.PubSub]:
    """What everybody hears."""
    with client.pubsub() as subscription:
        subscription.subscribe("said")
        assert subscription.get_message(timeout=5)
        yield subscription


# -- said and read


def test_what_is_said_is_read_in_order_from_any_place_on(ledger: Ledger) -> None:
    claim = a_running_job(ledger)
    pieces = [started(), Piece(1, 3, Voice.REASONING, "hm,"), content(5, "so"), content(12, "it goes")]

    assert say(ledger, claim, *pieces[:2]) == [True, True]
    assert say(ledger, claim, *pieces[2:]) == [True, True]

    assert ledger.said(claim.id) == Said(1, 12, pieces)
    assert ledger.said(claim.id, 1, 0).pieces == pieces[1:]
    assert ledger.said(claim.id, 1, 4).pieces == pieces[2:], "the piece that goes beyond the place is needed"
    assert ledger.said(claim.id, 1, 12).pieces == []


def test_text_of_any_kind_comes_back_as_it_was_said(ledger: Ledger, hearing: redis.client.PubSub) -> None:
    claim, text = a_running_job(ledger), "\N{BALLOON}\r\n\0\"\\ \N{COMBINING ACUTE ACCENT}-1"
    say(ledger, claim, content(len(text), text))

    assert ledger.said(claim.id).pieces == [content(len(text), text)]
    assert heard(hearing) == [[[claim.id, "1", str(len(text)), "content", text]]]


def test_a_job_that_said_nothing_or_is_unknown_has_nothing_to_read(ledger: Ledger) -> None:
    assert ledger.said(a_running_job(ledger).id) == Said(1, 0, [])
    assert ledger.said(ledger.submit(a_job()).job_id) == Said(0, 0, [])
    assert ledger.said("nobody") == Said(0, 0, [])
    assert ledger.say([]) == []


def test_what_is_said_again_after_a_lost_reply_changes_nothing_and_is_told_once(
        ledger: Ledger, client: redis.Redis, hearing: redis.client.PubSub) -> None:
    claim = a_running_job(ledger)
    pieces = [started(), content(2, "hi"), content(5, " al")]
    say(ledger, claim, *pieces)
    before = everything(client)

    assert say(ledger, claim, *pieces) == [True] * 3
    assert everything(client) == before
    assert len(heard(hearing)) == 1


def test_all_that_one_call_says_is_told_in_one_message(ledger: Ledger, hearing: redis.client.PubSub) -> None:
    first, second, other = (a_running_job(ledger) for _ in range(3))
    ledger.cancel(other.id)

    held = ledger.say([Saying(first, started()), Saying(other, started()), Saying(second, started()),
                       Saying(second, content(2, "hi"))])

    assert held == [True, False, True, True]
    assert heard(hearing) == [[[first.id, "1", "0", "started", ""], [second.id, "1", "0", "started", ""],
                               [second.id, "1", "2", "content", "hi"]]]


def test_a_long_answer_is_read_a_page_at_a_time(client: redis.Redis, settings: Settings, ledger: Ledger) -> None:
    claim, replies = a_running_job(ledger), []

    class Watching:
        """Runs scripts, and notes how much each returns."""

        def evalsha(self, *args: Any) -> Any:
            reply = client.evalsha(*args)
            replies.append(len(reply[3]))
            return reply

    pieces = [started(), *(content(end, "x") for end in range(1, 2 * _PAGE + 1))]
    say(ledger, claim, *pieces)
    watched = Ledger(client, settings, evaluator=Watching())

    assert watched.said(claim.id) == Said(1, 2 * _PAGE, pieces)
    assert replies == [_PAGE, _PAGE, 1]
    assert watched.said(claim.id, 1, _PAGE).pieces == pieces[_PAGE + 1:]


def test_a_piece_in_a_voice_of_a_later_tandem_is_left_out(ledger: Ledger, client: redis.Redis) -> None:
    claim = a_running_job(ledger)
    say(ledger, claim, started(), content(2, "hi"))
    client.xadd(f"said:{claim.id}", {"song": "la"}, id="1-4")
    say(ledger, claim, content(6, "!!"))

    assert ledger.said(claim.id) == Said(1, 6, [started(), content(2, "hi"), content(6, "!!")])


def test_how_far_a_job_is_can_be_seen_without_its_record(ledger: Ledger) -> None:
    claim = a_running_job(ledger)

    assert ledger.glance(claim.id) == (State.RUNNING, 1)
    assert ledger.glance(ledger.submit(a_job()).job_id) == (State.QUEUED, 0)
    assert ledger.glance("nobody") is None


# -- who may say it


def test_nobody_but_the_owner_of_the_running_attempt_is_heard(
        ledger: Ledger, client: redis.Redis, hearing: redis.client.PubSub) -> None:
    claim = a_running_job(ledger)

    for forged in (replace(claim, owner="nobody"), replace(claim, attempt=2), replace(claim, id="nobody")):
        assert say(ledger, forged, content(2, "hi")) == [False]
    ledger.settle(claim, State.SUCCEEDED)
    assert say(ledger, claim, content(2, "hi")) == [False]

    assert not client.exists(f"said:{claim.id}", "said:nobody")
    assert heard(hearing) == []


def test_the_next_attempt_starts_from_nothing_and_the_one_before_has_no_say_any_more(ledger: Ledger) -> None:
    first = a_running_job(ledger)
    say(ledger, first, started(), content(5, "hello"))
    ledger.release(first, because="drain")
    assert ledger.said(first.id).total == 5, "until then it stands"
    second = ledger.claim(first.id, PLACE, owner=new_owner())
    assert isinstance(second, Claim)

    assert ledger.said(first.id) == Said(2, 0, [])
    assert say(ledger, first, content(7, "hello w")) == [False]
    assert say(ledger, second, started(2), content(2, "ho", 2)) == [True, True]
    assert ledger.said(first.id, 1, 5) == Said(2, 2, [started(2), content(2, "ho", 2)])


# -- when the job ends


def test_what_a_success_said_goes_after_a_minute_for_its_result_holds_it(ledger: Ledger, client: redis.Redis) -> None:
    claim = a_running_job(ledger)
    say(ledger, claim, started(), content(5, "hello"))
    ledger.settle(claim, State.SUCCEEDED)

    assert 0 < client.pttl(f"said:{claim.id}") <= 60_000


@pytest.mark.parametrize("end", ["settle", "cancel", "late"])
def test_a_job_that_failed_can_be_read_for_an_hour_and_its_length_as_long_as_the_job(
        ledger: Ledger, client: redis.Redis, end: str) -> None:
    claim = a_running_job(ledger, deadline_s=60.0)
    say(ledger, claim, started(), content(5, "hello"))
    assert client.pttl(f"said:{claim.id}") == -1

    if end == "settle":
        ledger.settle(claim, State.FAILED)
    elif end == "cancel":
        ledger.cancel(claim.id)
    else:
        ledger.now_ms = claim.created_ms + 60_000
        assert ledger.expire() == [claim.id]

    assert HOUR_MS - 60_000 < client.pttl(f"said:{claim.id}") <= HOUR_MS
    client.delete(f"said:{claim.id}")
    assert ledger.said(claim.id) == Said(1, 5, [])


def test_a_job_that_said_nothing_leaves_nothing_behind(ledger: Ledger, client: redis.Redis) -> None:
    claim = a_running_job(ledger)
    ledger.settle(claim, State.SUCCEEDED)

    assert not client.exists(f"said:{claim.id}")
    assert b"said" not in client.hgetall(f"job:{claim.id}")


def test_what_was_said_goes_with_its_job_past_retention(ledger: Ledger, client: redis.Redis, settings: Settings) -> None:
    claim = a_running_job(ledger)
    say(ledger, claim, started())
    ledger.settle(claim, State.SUCCEEDED)
    ledger.now_ms = claim.created_ms + round(settings.retention_s * 1000) + 60_000

    assert ledger.purge() == 1
    assert not client.exists(f"said:{claim.id}")


# -- a worker is told to stop


def test_the_worker_of_a_job_that_is_cancelled_or_late_is_told_which_attempt_to_stop(
        ledger: Ledger, client: redis.Redis) -> None:
    cancelled, late, settled, queued = (a_running_job(ledger, deadline_s=60.0) for _ in range(4))
    with client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.subscribe(f"stopped:{PLACE.worker}")
        subscription.get_message(timeout=5)
        ledger.settle(settled, State.SUCCEEDED)
        ledger.release(queued, because="drain")
        ledger.cancel(queued.id)
        ledger.cancel(cancelled.id)
        ledger.now_ms = late.created_ms + 60_000
        ledger.expire()
        told = [message["data"].decode() for _ in range(4) if (message := subscription.get_message(timeout=0.5))]

    assert told == [f"{claim.id} {claim.owner}" for claim in (cancelled, late)]
