"""Those who wait for a job are told of its end: whoever ended it, over a restart of Redis, and by one thread for all of
them."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

import pytest

from app.announcements import Announcements
from app.errors import StoreUnavailable
from app.job import Job, State
from app.ledger import Claim, Ledger, new_owner
from app.settings import Settings
from app.store import open_redis
from ops.embedded_redis import free_port, start
from ops.sandbox import kill
from ops.waiting import wait_until
from tests.model_ledger import PLACE, a_job, a_running_job

SOON_S = 10.0  # below the 15 s after which a waiter looks by itself


@pytest.fixture
def announcements(ledger: Ledger, settings: Settings) -> Iterator[Announcements]:
    announcing = Announcements(settings)
    yield announcing
    announcing.stop()


def end(redis_url: str, job_id: str) -> str:
    """Claim a job and end it, in a process of its own."""
    settings = Settings(redis_url=redis_url)
    ledger = Ledger(open_redis(settings), settings)
    claim = ledger.claim(job_id, PLACE, owner=new_owner())
    assert isinstance(claim, Claim)
    return ledger.settle(claim, State.SUCCEEDED).value


def waited(announcements: Announcements, ledger: Ledger, job_id: str, timeout_s: float = 60.0) -> tuple[Job, float]:
    """Wait for a job as the gateway does; return it, and how long that took."""
    begun = time.monotonic()
    with announcements.waiter(job_id) as event:
        job = announcements.wait(event, lambda: ledger.read(job_id), timeout_s=timeout_s)
    return job, time.monotonic() - begun


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "tandem-announcements"]


# -- told


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
def test_a_waiter_is_told_when_its_job_ends(announcements: Announcements, ledger: Ledger, state: State) -> None:
    claim = a_running_job(ledger)
    with announcements.waiter(claim.id) as event:
        assert not event.is_set()
        ledger.settle(claim, state)
        assert event.wait(SOON_S)


def test_a_waiter_is_told_when_its_job_is_cancelled(announcements: Announcements, ledger: Ledger) -> None:
    job_id = ledger.submit(a_job()).job_id
    with announcements.waiter(job_id) as event:
        ledger.cancel(job_id)
        assert event.wait(SOON_S)


def test_a_waiter_is_told_when_another_process_ends_its_job(
        announcements: Announcements, ledger: Ledger, settings: Settings) -> None:
    job_id = ledger.submit(a_job()).job_id
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as elsewhere, announcements.waiter(job_id) as event:
        assert elsewhere.submit(end, settings.redis_url, job_id).result(30) == "recorded"
        assert event.wait(SOON_S)


def test_an_end_wakes_those_who_wait_for_that_job_and_nobody_else(announcements: Announcements, ledger: Ledger) -> None:
    ended, other = a_running_job(ledger), a_running_job(ledger)
    with (announcements.waiter(ended.id) as first, announcements.waiter(ended.id) as second,
          announcements.waiter(other.id) as bystander):
        ledger.settle(ended, State.SUCCEEDED)

        assert first.wait(SOON_S)
        assert second.wait(SOON_S)
        assert not bystander.is_set()


def test_waiting_threads_each_get_their_own_job_as_soon_as_it_ends(announcements: Announcements, ledger: Ledger) -> None:
    claims = [a_running_job(ledger) for _ in range(12)]

    with ThreadPoolExecutor(len(claims)) as threads:
        waits = [threads.submit(waited, announcements, ledger, claim.id) for claim in claims]
        wait_until(lambda: len(announcements._waiters) == len(claims), timeout_s=SOON_S, what="all of them to wait")
        for claim in reversed(claims):
            ledger.settle(claim, State.SUCCEEDED)
        answers = [wait.result(30) for wait in waits]
    assert [job.id for job, _ in answers] == [claim.id for claim in claims]
    assert {job.state for job, _ in answers} == {State.SUCCEEDED}
    assert max(seconds for _, seconds in answers) < SOON_S


# -- how long a wait is


def test_a_wait_for_a_job_that_has_ended_is_none(announcements: Announcements, ledger: Ledger) -> None:
    claim = a_running_job(ledger)
    ledger.settle(claim, State.FAILED)

    job, seconds = waited(announcements, ledger, claim.id)
    assert job.state is State.FAILED
    assert seconds < 2


@pytest.mark.parametrize("timeout_s", [0.0, 0.2])
def test_a_wait_that_is_over_returns_the_job_as_it_stands(
        announcements: Announcements, ledger: Ledger, timeout_s: float) -> None:
    job, seconds = waited(announcements, ledger, a_running_job(ledger).id, timeout_s)

    assert job.state is State.RUNNING
    assert timeout_s <= seconds < timeout_s + 2


def test_a_waiter_that_is_to_stop_does_so_and_returns_the_job_as_it_stands(
        announcements: Announcements, ledger: Ledger) -> None:
    job_id = ledger.submit(a_job()).job_id
    stopping = threading.Event()

    with ThreadPoolExecutor(1) as threads, announcements.waiter(job_id) as event:
        wait = threads.submit(announcements.wait, event, lambda: ledger.read(job_id), timeout_s=60.0,
                              stopped=stopping.is_set, every_s=0.05)
        assert not wait.done()
        stopping.set()
        assert wait.result(SOON_S).state is State.QUEUED


def test_a_false_alarm_does_not_end_a_wait(announcements: Announcements, ledger: Ledger) -> None:
    claim = a_running_job(ledger)
    looks: list[State] = []

    def look() -> Job:
        job = ledger.read(claim.id)
        looks.append(job.state)
        return job

    with ThreadPoolExecutor(1) as threads, announcements.waiter(claim.id) as event:
        wait = threads.submit(announcements.wait, event, look, timeout_s=60.0)
        wait_until(lambda: looks, timeout_s=SOON_S, what="the first look")
        event.set()
        wait_until(lambda: len(looks) == 2, timeout_s=SOON_S, what="a second look")
        ledger.settle(claim, State.SUCCEEDED)
        assert wait.result(SOON_S).state is State.SUCCEEDED
    assert looks == [State.RUNNING, State.RUNNING, State.SUCCEEDED]


# -- what waiting costs


def test_all_waiters_of_a_process_share_one_thread(announcements: Announcements, ledger: Ledger) -> None:
    before = len(readers())
    with ExitStack() as waiters:
        for number in range(50):
            waiters.enter_context(announcements.waiter(f"job-{number}"))
        assert len(readers()) == before + 1


def test_nobody_reads_before_anybody_waits_and_stopping_ends_the_thread(settings: Settings, ledger: Ledger) -> None:
    before = set(readers())
    announcing = Announcements(settings)
    assert set(readers()) == before

    with announcing.waiter("some-job"):
        (reader,) = set(readers()) - before
    announcing.stop()
    wait_until(lambda: not reader.is_alive(), timeout_s=SOON_S, what="the reading thread to end")


def test_a_waiter_is_forgotten_when_it_leaves_also_by_an_error(announcements: Announcements) -> None:
    with announcements.waiter("a"):
        with pytest.raises(KeyError), announcements.waiter("a"):
            raise KeyError
        assert list(announcements._waiters) == ["a"]
    assert not announcements._waiters


def test_the_reading_thread_ends_when_nobody_waits_any_more_and_the_next_waiter_is_told_again(
        announcements: Announcements, ledger: Ledger) -> None:
    before = set(readers())
    with announcements.waiter("some-job"):
        (reader,) = set(readers()) - before
    wait_until(lambda: not reader.is_alive(), timeout_s=SOON_S, what="the reading thread to end")
    missed, claim = a_running_job(ledger), a_running_job(ledger)
    ledger.settle(missed, State.SUCCEEDED)

    with announcements.waiter(claim.id) as event, announcements.waiter(missed.id) as late:
        ledger.settle(claim, State.SUCCEEDED)
        assert event.wait(SOON_S)
        assert not late.is_set(), "it read again what it had passed by"


# -- when Redis restarts


def test_waiters_look_again_after_redis_was_killed_and_hear_of_ends_when_it_is_back(tmp_path: Path) -> None:
    port = free_port()
    server = start(tmp_path, port=port)
    settings = Settings(redis_url=server.url)
    ledger, announcements = Ledger(open_redis(settings), settings), Announcements(settings)
    claim = a_running_job(ledger)

    with announcements.waiter(claim.id) as event:
        kill(server.process.pid)
        server.process.wait()
        assert event.wait(SOON_S), "its end may have been announced to nobody"
        with pytest.raises(StoreUnavailable):
            announcements.wait(event, lambda: ledger.read(claim.id), timeout_s=1)

        server = start(tmp_path, port=port)
        event.clear()
        ledger.settle(claim, State.SUCCEEDED)
        assert event.wait(SOON_S)
        assert announcements.wait(event, lambda: ledger.read(claim.id), timeout_s=1).state is State.SUCCEEDED
    announcements.stop()
    server.stop()
