"""Script calls of many threads travel together, and yet each gets its own reply or error."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from app.api.pipeline import SharedPipeline
from app.errors import StoreUnavailable
from app.job import State
from app.ledger import Claim, Ledger, Settled, Submitted, new_owner
from app.settings import Settings
from app.store import open_redis
from ops.embedded_redis import EmbeddedRedis, start
from ops.sandbox import kill
from tests.model_ledger import PLACE, a_job

ECHO = """
if ARGV[1] == 'bad' then return redis.error_reply('ERR refused ' .. ARGV[2]) end
return {ARGV[1], ARGV[2]}
"""
THREADS, CALLS = 24, 40


@pytest.fixture
def echo(client: redis.Redis) -> str:
    """A loaded script that returns its arguments, or an error for "bad"."""
    return str(client.script_load(ECHO))


@pytest.fixture
def pipeline(client: redis.Redis, settings: Settings) -> SharedPipeline:
    return SharedPipeline(open_redis(settings), patience_s=6.0)


def together(work: object, count: int = THREADS) -> list[object]:
    """Run `work(number)` on as many threads at once; return what each returned or raised."""
    begin = threading.Barrier(count)

    def run(number: int) -> object:
        begin.wait(30)
        try:
            return work(number)  # type: ignore[operator]
        except (redis.exceptions.RedisError, StoreUnavailable) as exc:
            return exc

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


def test_each_of_many_threads_gets_the_replies_to_its_own_calls(pipeline: SharedPipeline, echo: str) -> None:
    def work(number: int) -> list[list[bytes]]:
        return [pipeline.evalsha(echo, 0, number, call) for call in range(CALLS)]

    assert together(work) == [
        [[b"%d" % number, b"%d" % call] for call in range(CALLS)] for number in range(THREADS)]


def test_more_calls_than_one_batch_takes_are_all_answered(pipeline: SharedPipeline, echo: str) -> None:
    replies = together(lambda number: pipeline.evalsha(echo, 0, "n", number), 400)

    assert replies == [[b"n", b"%d" % number] for number in range(400)]


def test_an_error_of_one_call_reaches_its_caller_and_nobody_else(pipeline: SharedPipeline, echo: str) -> None:
    def work(number: int) -> list[str]:
        told = []
        for call in range(CALLS):
            try:
                told.append(pipeline.evalsha(echo, 0, "bad" if (number + call) % 3 == 0 else "good", call)[0].decode())
            except redis.exceptions.ResponseError as exc:
                told.append(str(exc))
        return told

    for number, told in enumerate(together(work)):
        assert told == [f"refused {call}" if (number + call) % 3 == 0 else "good" for call in range(CALLS)]


def test_all_calls_of_a_process_share_one_connection(client: redis.Redis, redis_server: EmbeddedRedis, echo: str) -> None:
    pipeline = SharedPipeline(redis.Redis(port=redis_server.port, client_name="shared"), patience_s=6.0)

    together(lambda number: pipeline.evalsha(echo, 0, "n", number))
    assert [each["name"] for each in client.client_list()].count("shared") == 1


def test_nothing_is_started_before_the_first_call_and_one_thread_after_it(pipeline: SharedPipeline, echo: str) -> None:
    def senders() -> int:
        return [thread.name for thread in threading.enumerate()].count("tandem-pipeline")

    before = senders()
    together(lambda number: pipeline.evalsha(echo, 0, "n", number))
    assert senders() == before + 1


# -- the ledger through it


@pytest.fixture
def shared_ledger(client: redis.Redis, settings: Settings) -> Ledger:
    """A ledger as the gateway has it."""
    shared = open_redis(settings)
    return Ledger(shared, settings, evaluator=SharedPipeline(shared, patience_s=6.0))


def test_jobs_submitted_at_once_through_it_are_all_accepted_also_when_redis_forgot_the_scripts(
        shared_ledger: Ledger, client: redis.Redis) -> None:
    for _ in range(3):
        client.script_flush()
        outcomes = together(lambda _: shared_ledger.submit(a_job()).outcome)
        assert outcomes == [Submitted.ACCEPTED] * THREADS
    assert shared_ledger.census().counts["accepted"] == 3 * THREADS
    assert shared_ledger.census().balanced


def test_one_job_claimed_by_many_threads_through_it_is_claimed_once(shared_ledger: Ledger) -> None:
    job_id = shared_ledger.submit(a_job()).job_id

    claims = together(lambda _: shared_ledger.claim(job_id, PLACE, owner=new_owner()))

    (won,) = [claim for claim in claims if isinstance(claim, Claim)]
    assert claims.count(State.RUNNING) == THREADS - 1
    assert shared_ledger.settle(won, State.SUCCEEDED) is Settled.RECORDED


# -- when Redis fails


class Mortal:
    """A Redis that a test may kill and start again, on the same port and data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = start(folder)
        self.url = self._server.url

    def kill(self) -> None:
        kill(self._server.process.pid)
        self._server.process.wait()

    def start(self) -> None:
        self._server = start(self._folder, port=self._server.port)

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Mortal]:
    server = Mortal(tmp_path / "redis")
    yield server
    server.stop()


@pytest.fixture
def mortal_ledger(mortal: Mortal) -> Ledger:
    """A ledger as the gateway has it, on a Redis that may be killed."""
    settings = Settings(redis_url=mortal.url)
    shared = open_redis(settings)
    return Ledger(shared, settings, evaluator=SharedPipeline(shared, patience_s=6.0))


def test_every_caller_hears_that_redis_is_gone_and_calls_work_again_when_it_is_back(
        mortal: Mortal, mortal_ledger: Ledger) -> None:
    before = [str(job_id) for job_id in together(lambda _: mortal_ledger.submit(a_job()).job_id)]

    mortal.kill()
    failures = together(lambda _: mortal_ledger.submit(a_job()))
    assert {type(failure) for failure in failures} == {StoreUnavailable}

    mortal.start()
    assert together(lambda _: mortal_ledger.submit(a_job()).outcome) == [Submitted.ACCEPTED] * THREADS
    assert {mortal_ledger.read(job_id).state for job_id in before} == {State.QUEUED}
    assert mortal_ledger.census().counts["accepted"] == 2 * THREADS


def test_calls_under_way_when_redis_is_killed_are_answered_or_fail_and_no_accepted_job_is_lost(
        mortal: Mortal, mortal_ledger: Ledger) -> None:
    enough = threading.Event()

    def work(_: int) -> list[str]:
        accepted: list[str] = []
        try:
            while True:
                accepted.append(mortal_ledger.submit(a_job()).job_id)
                if len(accepted) == 5:
                    enough.set()
        except StoreUnavailable:
            return accepted

    with ThreadPoolExecutor(1) as killer:
        killed = killer.submit(lambda: enough.wait(30) and mortal.kill())
        answers = together(work)
        killed.result(30)
    mortal.start()

    accepted = [job_id for answer in answers for job_id in answer]  # type: ignore[attr-defined]
    assert len(accepted) >= 5
    assert {mortal_ledger.read(job_id).state for job_id in accepted} == {State.QUEUED}
    assert mortal_ledger.census().balanced
