"""Those who follow a job that waits for another's answer read what that one says, and their own end."""

from app.announcements import Announcements
from app.ledger import Claim, Ledger, new_owner
from app.streams import Streams
from ops.waiting import wait_until
from tests.follower import SOON_S, Follower, say, succeed
from tests.model_ledger import PLACE, a_job, a_running_job


def test_who_follows_a_job_that_waits_for_anothers_answer_reads_that_one_and_its_own_end(
        ledger: Ledger, streams: Streams, announcements: Announcements) -> None:
    leader = a_running_job(ledger, fingerprint="f")
    same = ledger.submit(a_job(fingerprint="f")).job_id
    say(ledger, leader, 3, "the")
    follower = Follower(same, ledger, streams, announcements)
    follower.reads("the")
    say(ledger, leader, 7, " sea")
    follower.reads("the sea")
    succeed(ledger, leader, "the sea.")

    follower.ends()
    assert follower.names == ["queued", "started", "token", "token", "token", "succeeded"]
    assert follower.text == "the sea."
    assert Follower(same, ledger, streams, announcements).text == "the sea."


def test_who_follows_the_heir_of_a_cancelled_job_starts_over_with_its_own_attempt(
        ledger: Ledger, streams: Streams, announcements: Announcements) -> None:
    leader = a_running_job(ledger, fingerprint="f")
    heir = ledger.submit(a_job(fingerprint="f")).job_id
    last = ledger.submit(a_job(fingerprint="f")).job_id
    say(ledger, leader, 3, "the")
    followers = [Follower(job_id, ledger, streams, announcements) for job_id in (heir, last)]
    for follower in followers:
        follower.reads("the")
    ledger.cancel(leader.id)
    claim = ledger.claim(heir, PLACE, owner=new_owner())
    assert isinstance(claim, Claim)
    say(ledger, claim, 1, "a")
    for follower in followers:
        wait_until(lambda follower=follower: follower.names[-2:] == ["restarted", "token"], timeout_s=SOON_S,  # type: ignore[misc]
                   what="the new attempt to be read")
    succeed(ledger, claim, "a sea")

    for follower in followers:
        follower.ends()
        assert follower.names == ["queued", "started", "token", "restarted", "token", "token", "succeeded"]
        assert follower.text.removeprefix("the") == "a sea"


def test_a_follower_that_is_cancelled_ends_where_the_other_had_come_to(
        ledger: Ledger, streams: Streams, announcements: Announcements) -> None:
    leader = a_running_job(ledger, fingerprint="f")
    same = ledger.submit(a_job(fingerprint="f")).job_id
    say(ledger, leader, 3, "the")
    follower = Follower(same, ledger, streams, announcements)
    follower.reads("the")
    ledger.cancel(same)
    follower.ends()
    say(ledger, leader, 7, " sea")
    succeed(ledger, leader, "the sea")

    assert follower.names == ["queued", "started", "token", "cancelled"]
    assert Follower(same, ledger, streams, announcements, mark=follower.seen[-1].mark).names == []
