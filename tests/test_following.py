"""Those who follow a job read what it says as it says it, and its end: nothing twice, nothing missing, from anywhere on."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from app.announcements import Announcements
from app.following import Following
from app.job import Service, model_part
from app.ledger import Claim, Ledger, Piece, Saying, Voice, new_owner
from app.settings import Settings
from app.store import open_redis
from app.streams import Streams
from app.transcript import Mark
from ops.embedded_redis import free_port, start
from ops.sandbox import kill
from ops.waiting import wait_until
from tests.follower import SOON_S, Follower, say, succeed
from tests.model_ledger import PLACE, a_job, a_running_job

# -- followers


def test_a_follower_reads_a_job_from_its_queue_to_its_end(
        ledger: Ledger, streams: Streams, announcements: Announcements) -> None:
    before, job_id = (ledger.submit(a_job()).job_id for _ in range(2))
    follower = Follower(job_id, ledger, streams, announcements)
    assert follower.names == ["queued"]
    assert follower.seen[0].data == {"position": 1, "eta_s": None}
    ledger.cancel(before)
    claim = ledger.claim(job_id, PLACE, owner=new_owner())
    assert isinstance(claim, Claim)

    say(ledger, claim, 0, "", Voice.STARTED)
    wait_until(lambda: follower.names == ["queued", "started"], timeout_s=SOON_S, what="the start")
    say(ledger, claim, 5, "hello")
    follower.reads("hello")
    succeed(ledger, claim, "hello there")
    follower.ends()

    assert follower.text == "hello there"
    assert follower.names == ["queued", "started", "token", "token", "succeeded"]


def test_a_hundred_followers_of_a_job_read_the_same(
        ledger: Ledger, streams: Streams, announcements: Announcements) -> None:
    claim = a_running_job(ledger)
    followers = [Follower(claim.id, ledger, streams, announcements) for _ in range(100)]
    for count in range(1, 31):
        say(ledger, claim, 2 * count, "x ")
    for follower in followers:
        follower.reads("x " * 30)
    succeed(ledger, claim, "x " * 30 + "end")
    for follower in followers:
        follower.ends()

    assert {follower.text for follower in followers} == {"x " * 30 + "end"}


def test_followers_lose_nothing_and_read_nothing_twice_wherever_they_begin_while_a_job_speaks(
        ledger: Ledger, streams: Streams, announcements: Announcements) -> None:
    claim, whole = a_running_job(ledger), "".join(f"{number} " for number in range(200))

    def speak() -> None:
        for end in range(1, len(whole) + 1):
            say(ledger, claim, end, whole[end - 1])

    with ThreadPoolExecutor(1) as thread:
        speaking = thread.submit(speak)
        followers = []
        for place in range(0, len(whole), 20):
            wait_until(lambda end=place: ledger.said(claim.id).total >= end, timeout_s=SOON_S, what="more text",
                       every_s=0.001)
            followers.append((place, Follower(claim.id, ledger, streams, announcements, Mark(1, place))))
        speaking.result(SOON_S)
    for place, follower in followers:
        follower.reads(whole[place:])


def test_a_follower_who_was_told_something_too_late_reads_it_in_the_ledger(
        ledger: Ledger, streams: Streams, announcements: Announcements, client: redis.Redis) -> None:
    claim = a_running_job(ledger)
    follower = Follower(claim.id, ledger, streams, announcements)
    say(ledger, claim, 1, "a")
    follower.reads("a")
    client.xadd(f"said:{claim.id}", {"content": "b"}, id="1-2")  # said, but told to nobody
    wait_until(lambda: say_on(ledger, claim) or "ab" in follower.text, timeout_s=SOON_S, what="the gap to be filled",
               every_s=0.2)

    assert follower.text == "ab" + "c" * (len(follower.text) - 2)


def say_on(ledger: Ledger, claim: Claim) -> None:
    say(ledger, claim, ledger.said(claim.id).total + 1, "c")


def test_a_follower_is_told_to_start_anew_when_another_attempt_begins(
        ledger: Ledger, streams: Streams, announcements: Announcements) -> None:
    claim = a_running_job(ledger)
    follower = Follower(claim.id, ledger, streams, announcements)
    say(ledger, claim, 4, "lost")
    follower.reads("lost")
    ledger.release(claim, because="drain")
    again = ledger.claim(claim.id, PLACE, owner=new_owner())
    assert isinstance(again, Claim)
    say(ledger, again, 0, "", Voice.STARTED)
    wait_until(lambda: "restarted" in follower.names, timeout_s=SOON_S, what="the restart")
    succeed(ledger, again, "found")
    follower.ends()

    assert follower.names == ["queued", "started", "token", "restarted", "token", "succeeded"]
    assert follower.text == "lostfound"


def test_a_chat_is_followed_by_what_its_model_part_says_and_ends_as_the_chat_does(
        ledger: Ledger, streams: Streams, announcements: Announcements) -> None:
    chat = a_running_job(ledger, Service.CHAT)
    follower = Follower(chat.id, ledger, streams, announcements)
    assert follower.names == ["queued"]
    part = a_running_job(ledger, id=model_part(chat.id), parent=chat.id)
    say(ledger, part, 5, "hello")
    follower.reads("hello")
    succeed(ledger, part, "hello there")
    succeed(ledger, chat, "hello there")
    follower.ends()

    assert follower.text == "hello there"
    assert follower.names == ["queued", "started", "token", "token", "succeeded"]
    last = follower.seen[-1].data
    assert not isinstance(last, dict)
    assert last.id == chat.id


@pytest.mark.parametrize("spoken", [True, False])
def test_the_last_event_of_a_chat_that_was_cancelled_stays_the_last(
        ledger: Ledger, streams: Streams, announcements: Announcements, spoken: bool) -> None:
    chat = a_running_job(ledger, Service.CHAT)
    part = a_running_job(ledger, id=model_part(chat.id), parent=chat.id)
    if spoken:
        say(ledger, part, 5, "hello")
    ledger.cancel(chat.id)
    follower = Follower(chat.id, ledger, streams, announcements)
    follower.ends()

    assert follower.names[-1] == "cancelled"
    assert ledger.say([Saying(part, Piece(1, 9, Voice.CONTENT, "late"))]) == [False]
    again = Following(chat.id, "ann", ledger=ledger, mark=follower.seen[-1].mark)
    assert again.begin() == []
    assert again.over


def test_closing_ends_every_follower_at_once_and_those_that_come_later(
        ledger: Ledger, streams: Streams, announcements: Announcements) -> None:
    claim = a_running_job(ledger)
    followers = [Follower(claim.id, ledger, streams, announcements) for _ in range(10)]
    streams.close()
    followers.append(Follower(claim.id, ledger, streams, announcements))
    for follower in followers:
        follower.ends()

    assert followers[-1].names == ["queued", "started"]


def test_a_gap_that_is_found_right_after_a_look_is_looked_into_soon(
        ledger: Ledger, streams: Streams, announcements: Announcements, client: redis.Redis) -> None:
    claim = a_running_job(ledger)
    follower = Follower(claim.id, ledger, streams, announcements)
    wait_until(lambda: client.pubsub_numsub("said")[0][1], timeout_s=SOON_S, what="the process to hear")
    say(ledger, claim, 1, "a")
    follower.reads("a")
    client.xadd(f"said:{claim.id}", {"content": "b"}, id="1-2")  # said, but told to nobody
    say(ledger, claim, 3, "c")
    follower.reads("abc")


# -- what Redis lost


def test_whoever_has_read_of_an_attempt_that_is_lost_is_told_so_when_there_is_another(
        ledger: Ledger, streams: Streams, announcements: Announcements) -> None:
    job_id = ledger.submit(a_job()).job_id
    follower = Follower(job_id, ledger, streams, announcements, Mark(1, 5))
    assert follower.seen == []
    claim = ledger.claim(job_id, PLACE, owner=new_owner())
    assert isinstance(claim, Claim)
    succeed(ledger, claim, "hello")
    follower.ends()

    assert follower.names == ["restarted", "token", "succeeded"]


def test_a_follower_starts_over_when_redis_lost_what_he_was_told(
        ledger: Ledger, streams: Streams, announcements: Announcements, client: redis.Redis) -> None:
    claim = a_running_job(ledger)
    follower = Follower(claim.id, ledger, streams, announcements)
    say(ledger, claim, 2, "ab")
    say(ledger, claim, 4, "cd")
    follower.reads("abcd")
    client.xdel(f"said:{claim.id}", "1-4")
    streams._look()
    wait_until(lambda: follower.names[-2:] == ["restarted", "token"], timeout_s=SOON_S, what="the restart")
    succeed(ledger, claim, "abc")
    follower.ends()

    assert follower.text == "abcdabc"
    assert follower.names[-3:] == ["token", "token", "succeeded"]


# -- Redis away


def test_a_follower_waits_while_redis_is_away_and_then_goes_on_where_he_was(tmp_path: Path) -> None:
    port = free_port()
    server = start(tmp_path, port=port)
    settings = Settings(redis_url=server.url, redis_timeout_s=1.0)
    ledger = Ledger(open_redis(settings), settings)
    streams, announcements = Streams(settings), Announcements(settings)
    claim = a_running_job(ledger)
    follower = Follower(claim.id, ledger, streams, announcements)
    say(ledger, claim, 6, "before")
    follower.reads("before")

    kill(server.process.pid)
    server.process.wait()
    server = start(tmp_path, port=port)
    say(ledger, claim, 15, " meanwhil")
    say(ledger, claim, 16, "e")
    follower.reads("before meanwhile")
    succeed(ledger, claim, "before meanwhile")
    follower.ends()

    assert follower.names[-1] == "succeeded"
    assert follower.text == "before meanwhile"
    streams.close()
    announcements.stop()
    server.stop()
