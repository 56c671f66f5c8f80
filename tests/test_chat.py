"""A chat and the model's part of it end together, whichever way the chat ends."""

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import redis

from app.announcements import Announcements
from app.answers import Answers
from app.conversations import Conversations, line_of, turns_key
from app.errors import EngineTransient, JobStopped
from app.job import Lane, NewJob, Service, State, model_part, new_job_id
from app.ledger import Claim, Ledger, Place, new_owner
from app.model_names import ModelNames
from app.response_cache import ResponseCache
from app.settings import Settings
from ops.embedded_redis import EmbeddedRedis
from ops.waiting import wait_until
from routing.recovery import Recovery
from workers import resources
from workers.attempt import Attempt
from workers.tasks import CODES, chat, part

assert chat, "the tasks are registered"

PLACE = Place(worker="w", server="server-1", processor="cpu")


@pytest.fixture
def held(client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a worker holds, without a worker for the model's part, for which a chat waits a moment."""
    announcements, cache = Announcements(settings), ResponseCache(settings, client)
    monkeypatch.setattr(resources, "_held", resources.Resources(
        client=client, accounts=None, announcements=announcements, cache=cache,  # type: ignore[arg-type]
        answers=Answers(cache, ModelNames(client, settings), settings)))
    monkeypatch.setattr(part, "_LONGEST_WAIT_S", 0.05)
    Conversations(client).begin("ann", "c")
    yield
    announcements.stop()


def claimed(ledger: Ledger, lane: Lane = Lane.INTERACTIVE) -> Claim:
    """Submit a chat and claim it."""
    job_id = new_job_id()
    ledger.submit(NewJob(id=job_id, service=Service.CHAT, task="chat.reply", tenant="ann", lane=lane,
                         input=b'{"conversation": "c", "message": "well?"}'))
    claim = ledger.claim(job_id, PLACE, owner=new_owner())
    assert isinstance(claim, Claim)
    return claim


def an_attempt(claim: Claim, ledger: Ledger, settings: Settings, stopped: threading.Event | None = None) -> Attempt:
    node = SimpleNamespace(ledger=ledger, settings=settings, wake_when_lost=lambda *_: None)
    return Attempt(claim, node, stopped.is_set if stopped else lambda: False)  # type: ignore[arg-type]


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize(("attempts", "its"), [(1, State.CANCELLED), (2, State.QUEUED)])
def test_a_chat_that_gives_up_for_good_takes_its_part_with_it_and_one_that_comes_again_does_not(
        attempts: int, its: State, ledger: Ledger) -> None:
    claim = claimed(ledger)

    with pytest.raises(EngineTransient, match="is still queued"):
        CODES["chat.reply"](an_attempt(claim, ledger, Settings(max_attempts=attempts)))

    assert ledger.read(model_part(claim.id)).state is its


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize(("cancelled", "its"), [(True, State.CANCELLED), (False, State.QUEUED)])
def test_a_cancelled_chat_takes_its_part_with_it_and_one_whose_worker_goes_down_does_not(
        cancelled: bool, its: State, ledger: Ledger) -> None:
    claim, stopped = claimed(ledger), threading.Event()
    if cancelled:
        ledger.cancel(claim.id)
    stopped.set()

    with pytest.raises(JobStopped):
        CODES["chat.reply"](an_attempt(claim, ledger, Settings(), stopped))

    assert ledger.read(model_part(claim.id)).state is its


def test_a_chat_that_lost_too_many_workers_takes_its_part_with_it(client: redis.Redis, redis_server: EmbeddedRedis) -> None:
    settings = Settings(redis_url=redis_server.url, lease_s=0.001, max_lost=1)
    ledger = Ledger(client, settings)
    claim = claimed(ledger)
    ledger.submit(NewJob(id=model_part(claim.id), service=Service.MODEL, task="model.generate", tenant="ann", input=b"{}",
                         parent=claim.id))
    recovery = Recovery(client, settings, who="a test")

    def failed() -> bool:
        recovery.round()
        return ledger.read(claim.id).state is State.FAILED

    wait_until(failed, timeout_s=10, what="the chat to fail")
    assert ledger.read(model_part(claim.id)).state is State.CANCELLED


@pytest.mark.usefixtures("held")
def test_a_chat_that_fails_before_it_has_a_part_fails_as_it_is(ledger: Ledger, client: redis.Redis) -> None:
    client.rpush(turns_key(Conversations(client).begin("ann", "c")), "no turn")

    with pytest.raises(ValueError, match="JSON is malformed"):
        CODES["chat.reply"](an_attempt(claimed(ledger), ledger, Settings(max_attempts=1)))


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("lane", list(Lane))
def test_the_models_part_is_as_urgent_as_its_chat(lane: Lane, ledger: Ledger, settings: Settings) -> None:
    claim = claimed(ledger, lane)

    with pytest.raises(EngineTransient):
        CODES["chat.reply"](an_attempt(claim, ledger, settings))

    assert ledger.read(model_part(claim.id)).lane is lane


def test_two_turns_at_once_are_answered_one_after_the_other(ledger: Ledger) -> None:
    first, second, elsewhere = (
        NewJob(id=new_job_id(), service=Service.CHAT, task="chat.reply", tenant="ann", line=line_of("ann", name),
               input=b'{"conversation": "c", "message": "well?"}') for name in ("c", "c", "d"))
    for job in (first, second, elsewhere):
        ledger.submit(job)

    claims = [ledger.claim(job.id, PLACE, owner=new_owner()) for job in (first, second, elsewhere)]
    ledger.cancel(first.id)

    assert [isinstance(claim, Claim) for claim in claims] == [True, False, True]
    assert isinstance(ledger.claim(second.id, PLACE, owner=new_owner()), Claim)
