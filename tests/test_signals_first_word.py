"""When a job said its first word is noted in its record: of its last attempt, here or in the cloud, or of a chat's part."""

import pytest
import redis

from app.api.request_window import first_word_s
from app.job import Job, Service, State, model_part
from app.ledger import Claim, CloudLedger, CloudSaying, Ending, Ledger, Piece, Saying, Voice, new_owner
from app.settings import Settings
from tests.ledger_cloud import NOW_MS, begun_job, travel
from tests.model_ledger import PLACE, a_job, a_running_job, everything


@pytest.fixture
def ledger(client: redis.Redis, settings: Settings) -> Ledger:
    """A ledger in which time passes only as the test says."""
    return Ledger(client, settings, now_ms=NOW_MS)


@pytest.fixture
def cloud(client: redis.Redis, settings: Settings) -> CloudLedger:
    return CloudLedger(client, settings, now_ms=NOW_MS)


def say(ledger: Ledger, claim: Claim, position: int, text: str, voice: Voice = Voice.CONTENT) -> None:
    assert ledger.say([Saying(claim, Piece(claim.attempt, position, voice, text))]) == [True]


def waited_s(job: Job) -> float:
    return first_word_s(job, 99.0)


def test_a_slow_answer_was_waited_for_until_its_first_word(ledger: Ledger) -> None:
    claim = a_running_job(ledger)
    say(ledger, claim, 0, "", Voice.STARTED)
    travel(0.3, ledger)
    say(ledger, claim, 5, "Hello")
    travel(20, ledger)
    say(ledger, claim, 11, " there")
    ledger.settle(claim, State.SUCCEEDED, Ending(result=b"{}"))

    job = ledger.read(claim.id)
    assert (job.finished_ms or 0) - job.created_ms == 20_300
    assert waited_s(job) == 0.3


@pytest.mark.parametrize("voice", [Voice.REASONING, Voice.CONTENT])
def test_reasoning_is_a_word_too(ledger: Ledger, voice: Voice) -> None:
    claim = a_running_job(ledger)
    travel(1, ledger)
    say(ledger, claim, 2, "hm", voice)

    assert ledger.read(claim.id).first_ms == NOW_MS + 1000


def test_a_job_that_says_nothing_was_waited_for_until_its_end(ledger: Ledger) -> None:
    claim = a_running_job(ledger)
    travel(2, ledger)
    assert waited_s(ledger.read(claim.id)) == 99.0, "neither has come, so until now"
    ledger.settle(claim, State.SUCCEEDED, Ending(result=b"{}"))

    assert waited_s(ledger.read(claim.id)) == 2.0


def test_saying_it_twice_moves_nothing(ledger: Ledger, client: redis.Redis) -> None:
    claim = a_running_job(ledger)
    say(ledger, claim, 5, "Hello")
    before = everything(client)
    travel(1, ledger)
    say(ledger, claim, 5, "Hello")

    assert everything(client) == before


def test_what_an_attempt_said_that_was_lost_is_void(ledger: Ledger, settings: Settings) -> None:
    claim = a_running_job(ledger)
    say(ledger, claim, 5, "Hello")
    travel(settings.lease_s + 1, ledger)
    assert ledger.reap() == ([claim.id], [])
    again = ledger.claim(claim.id, PLACE, owner=new_owner())
    assert isinstance(again, Claim)
    assert ledger.read(claim.id).first_ms is None

    travel(1, ledger)
    say(ledger, again, 5, "Hello")
    assert ledger.read(claim.id).first_ms == ledger.now_ms


def test_a_run_in_the_cloud_speaks_when_home_hears_of_it(ledger: Ledger, cloud: CloudLedger) -> None:
    claim = begun_job(ledger, cloud)
    travel(0.5, ledger, cloud)
    cloud.say([CloudSaying(claim, 5, Voice.CONTENT, " there")])
    assert ledger.read(claim.id).first_ms is None, "what comes before it is missing"
    travel(0.5, ledger, cloud)
    cloud.say([CloudSaying(claim, 0, Voice.CONTENT, "Hello")])
    travel(5, ledger, cloud)
    cloud.say([CloudSaying(claim, 11, Voice.CONTENT, " world")])

    assert ledger.read(claim.id).first_ms == NOW_MS + 1000


def test_a_chat_speaks_when_its_part_does(ledger: Ledger) -> None:
    chat = a_running_job(ledger, Service.CHAT)
    part = a_running_job(ledger, id=model_part(chat.id), parent=chat.id)
    travel(0.4, ledger)
    say(ledger, part, 2, "Hi")

    assert ledger.read(chat.id).first_ms == ledger.read(part.id).first_ms == NOW_MS + 400


def test_a_part_whose_chat_is_gone_speaks_for_itself(ledger: Ledger, client: redis.Redis) -> None:
    part = a_running_job(ledger, parent="01990000-0000-7000-8000-000000000000")
    say(ledger, part, 2, "Hi")

    assert ledger.read(part.id).first_ms == NOW_MS
    assert not client.exists("job:01990000-0000-7000-8000-000000000000")


def test_who_follows_another_heard_his_first_word(ledger: Ledger) -> None:
    leader = a_running_job(ledger, fingerprint="f")
    follower = ledger.submit(a_job(fingerprint="f")).job_id
    travel(0.2, ledger)
    say(ledger, leader, 2, "Hi")
    late = ledger.submit(a_job(fingerprint="f")).job_id
    travel(8, ledger)
    late_still = ledger.submit(a_job(fingerprint="f")).job_id
    ledger.settle(leader, State.SUCCEEDED, Ending(result=b"{}"))

    assert [waited_s(ledger.read(job_id)) for job_id in (follower, late, late_still)] == [0.2, 0.0, 0.0]


def test_ends_at_home_are_counted_by_service_once_each(ledger: Ledger, cloud: CloudLedger, client: redis.Redis) -> None:
    first, second, away = a_running_job(ledger), a_running_job(ledger, Service.CHAT), begun_job(ledger, cloud)
    for claim in (first, first, second, away):
        ledger.settle(claim, State.SUCCEEDED, Ending(result=b"{}"))

    assert client.hgetall("served") == {b"model": b"1", b"chat": b"1"}
