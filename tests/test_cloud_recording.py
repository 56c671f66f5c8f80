"""What cloud workers report, on its way into the ledger: in any order, twice, late; and what is void."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import redis

from app.job import State
from app.ledger import Claim, CloudLedger, Ledger, Stop
from app.routing_rules import Rules
from app.settings import Settings
from routing.cloud import words
from routing.cloud.reading import MalformedReport
from routing.cloud.recording import Recorder
from tests.clock import Clock
from tests.cloud_home.stand_in import Run, StandIn
from tests.model_ledger import PLACE, a_job

DECISION = b'{"rule":"by-hand"}'


@pytest.fixture
def cloud(client: redis.Redis, settings: Settings) -> CloudLedger:
    return CloudLedger(client, settings)


@pytest.fixture
def kept() -> list[tuple[str, bytes]]:
    return []  # answers that the recorder told of, by their job


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(ledger: Ledger, cloud: CloudLedger, kept: list[tuple[str, bytes]], clock: Clock) -> Recorder:
    return Recorder(ledger, cloud, recorded=lambda claim, result, _: kept.append((claim.id, result)), clock=clock)


@pytest.fixture
def say(recorder: Recorder, settings: Settings) -> Callable[..., None]:
    worker = StandIn(settings)
    return lambda *said: recorder.record(worker.report(*said))


def sent(ledger: Ledger, cloud: CloudLedger) -> Run:
    """Submit a job and send it; return a run of it that has not begun."""
    claim = cloud.send_job(ledger.submit(a_job()).job_id, decision=DECISION, rules=Rules())
    assert isinstance(claim, Claim)
    return Run(claim.id, claim.owner)


def text_of(ledger: Ledger, run: Run) -> str:
    return "".join(piece.text for piece in ledger.said(run.job).pieces)


def void(cloud: CloudLedger) -> list[tuple[str, str]]:
    """What the cloud is to be told, and which worker."""
    stops: Sequence[Stop] = cloud.stops("a test", block_ms=1) or cloud.stops("a test", block_ms=1)
    cloud.stopped([stop.entry_id for stop in stops])
    return [(stop.void, stop.worker) for stop in stops]


def test_the_first_word_of_a_run_begins_it_whatever_it_is(ledger: Ledger, cloud: CloudLedger,
                                                          say: Callable[..., None]) -> None:
    for word in (Run.began, Run.alive, lambda run: run.said(0, "so")):
        run = sent(ledger, cloud)
        say(word(run))
        job = ledger.read(run.job)
        assert (job.state, job.attempt, job.route, job.server, job.worker, job.processor) == (
            State.RUNNING, 1, "cloud", "cloud", "cloud@a", "P11")


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_words_are_recorded_whatever_their_order(ledger: Ledger, cloud: CloudLedger, say: Callable[..., None],
                                                 order: tuple[int, ...]) -> None:
    run = sent(ledger, cloud)
    said = [run.began(), run.said(0, "mind "), run.said(5, "the "), run.said(9, "gap")]
    for index in order:
        say(said[index])
        say(said[index])

    assert text_of(ledger, run) == "mind the gap"
    say(*run.ended("mind the gap"))
    job = ledger.read(run.job)
    assert (job.state, job.recorded, job.attempt) == (State.SUCCEEDED, 1, 1)
    assert job.result == b'{"text":"mind the gap","finish_reason":"stop","model":"scripted"}'


def test_an_end_is_all_that_needs_to_be_heard_of_a_run(ledger: Ledger, cloud: CloudLedger, say: Callable[..., None],
                                                       kept: list[tuple[str, bytes]]) -> None:
    run = sent(ledger, cloud)
    say(*run.ended())

    job = ledger.read(run.job)
    assert (job.state, job.usage) == (State.SUCCEEDED, b'{"prompt_tokens":1,"completion_tokens":2}')
    assert kept == [(run.job, job.result)]


def test_an_end_in_parts_counts_when_the_last_part_has_come(ledger: Ledger, cloud: CloudLedger,
                                                            say: Callable[..., None]) -> None:
    run = sent(ledger, cloud)
    text = "\N{BALLOON} " * 300
    last, *parts = run.ended(text, of=7)
    for part in parts + parts:
        say(part)
        assert ledger.read(run.job).state is State.RUNNING
    say(last)

    assert msgspec.json.decode(ledger.read(run.job).result or b"")["text"] == text


def test_what_comes_twice_or_after_the_end_changes_nothing_and_stops_nobody(
        ledger: Ledger, cloud: CloudLedger, say: Callable[..., None], kept: list[tuple[str, bytes]]) -> None:
    run = sent(ledger, cloud)
    say(run.began(), run.said(0, "so"), *run.ended("so"))
    say(run.began(), run.said(0, "so"), run.said(2, "!"), run.alive(), *run.ended("so"), run.gave_back())

    assert (ledger.read(run.job).recorded, text_of(ledger, run), len(kept)) == (1, "so", 1)
    assert void(cloud) == []


class Killed(BaseException):
    """The process ends here."""


class Mortal:
    """The ledgers of a process that is killed at a call of them, before or after it is done."""

    def __init__(self, at: int, *, done: bool) -> None:
        self._left = at
        self._done = done

    def of(self, ledger: Any) -> Any:
        return SimpleNamespace(**{name: partial(self._call, getattr(ledger, name)) for name in (
            "begin", "say", "renew", "part", "settle") if hasattr(ledger, name)})

    def _call(self, method: Callable[..., Any], *args: Any, **more: Any) -> Any:
        self._left -= 1
        if self._left < 0 and not self._done:
            raise Killed
        found = method(*args, **more)
        if self._left < 0:
            raise Killed
        return found


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("at", range(6))  # begin, say, renew, the two parts, settle
def test_a_report_whose_recorder_was_killed_is_recorded_by_another_from_its_beginning(
        ledger: Ledger, cloud: CloudLedger, say: Callable[..., None], settings: Settings, kept: list[tuple[str, bytes]],
        at: int, done: bool) -> None:
    run = sent(ledger, cloud)
    said = [run.began(), run.said(0, "so"), *run.ended("so", of=2)]
    mortal = Mortal(at, done=done)
    with pytest.raises(Killed):
        Recorder(mortal.of(ledger), mortal.of(cloud)).record(StandIn(settings).report(*said))
    say(*said)

    job = ledger.read(run.job)
    assert (job.state, job.attempt, job.recorded, text_of(ledger, run)) == (State.SUCCEEDED, 1, 1, "so")
    assert ledger.census().counts["succeeded"] == 1
    assert len(kept) == int((at, done) != (5, True)), "after that only the cache misses the answer"


def test_an_errand_that_is_run_again_after_its_answer_was_recorded_is_void(ledger: Ledger, cloud: CloudLedger,
                                                                          say: Callable[..., None]) -> None:
    run = sent(ledger, cloud)
    say(*run.ended("the first"))
    again = Run(run.job, run.ticket)  # its worker died before the message was deleted
    say(again.began())
    assert void(cloud) == [(again.run, "cloud@a")]
    say(*again.ended("the second"))

    job = ledger.read(run.job)
    assert (msgspec.json.decode(job.result or b"")["text"], job.attempt, job.recorded) == ("the first", 1, 1)


def test_a_failure_is_recorded(ledger: Ledger, cloud: CloudLedger, say: Callable[..., None],
                               kept: list[tuple[str, bytes]]) -> None:
    run = sent(ledger, cloud)
    say(*run.ended(state="failed"))

    job = ledger.read(run.job)
    assert (job.state, job.error) == (State.FAILED, b'{"code":"engine-failed","detail":"no","fault":"engine"}')
    assert kept == []


@pytest.mark.parametrize(("because", "errors"), [("error", 1), ("drain", 0)])
def test_a_job_that_is_given_back_waits_at_home(ledger: Ledger, cloud: CloudLedger, say: Callable[..., None],
                                                because: str, errors: int) -> None:
    run = sent(ledger, cloud)
    say(run.began(), run.gave_back(because))

    assert (ledger.read(run.job).state, ledger.read(run.job).route) == (State.QUEUED, "local")
    claim = ledger.claim(run.job, PLACE, owner="b" * 16)
    assert isinstance(claim, Claim)
    assert (claim.attempt, claim.errors) == (2, errors)


def test_the_second_run_of_a_ticket_is_void_and_its_worker_is_told_once_in_a_while(
        ledger: Ledger, cloud: CloudLedger, say: Callable[..., None], clock: Clock) -> None:
    run = sent(ledger, cloud)
    other = Run(run.job, run.ticket)
    say(run.began())
    say(other.began())
    say(other.said(0, "me"))
    assert void(cloud) == [(other.run, "cloud@a")]
    clock.now_s += 30
    say(other.alive())
    assert void(cloud) == [(other.run, "cloud@a")]
    say(*other.ended())

    assert (ledger.read(run.job).state, void(cloud)) == (State.RUNNING, [])


def test_a_late_end_of_a_cancelled_job_is_refused(ledger: Ledger, cloud: CloudLedger, say: Callable[..., None],
                                                  kept: list[tuple[str, bytes]]) -> None:
    run = sent(ledger, cloud)
    say(run.began())
    ledger.cancel(run.job)
    assert void(cloud) == [(run.run, "cloud@a")]
    say(*run.ended())

    assert (ledger.read(run.job).state, ledger.read(run.job).result, kept) == (State.CANCELLED, None, [])
    assert void(cloud) == [], "it has ended: nothing is left to be stopped"


@pytest.mark.parametrize("word", [Run.alive, lambda run: run.said(2, "and on")])
def test_a_run_that_goes_on_after_its_job_was_cancelled_is_told_again(
        ledger: Ledger, cloud: CloudLedger, say: Callable[..., None], word: Callable[[Run], words.Word]) -> None:
    run = sent(ledger, cloud)
    say(run.said(0, "so"))
    ledger.cancel(run.job)
    void(cloud)
    say(word(run))

    assert void(cloud) == [(run.run, "cloud@a")]


def test_whatever_is_heard_of_a_run_renews_its_lease(client: redis.Redis, ledger: Ledger, cloud: CloudLedger,
                                                     say: Callable[..., None]) -> None:
    run = sent(ledger, cloud)
    say(run.began())
    for word in (run.alive(), run.said(0, "so"), run.began(), run.ended(of=2)[0]):
        client.zadd("leases", {run.job: 1})
        say(word)
        assert client.zscore("leases", run.job) > 1_000_000


def test_a_job_whose_lease_ran_out_is_not_given_back_to_its_run(ledger: Ledger, cloud: CloudLedger,
                                                                say: Callable[..., None], client: redis.Redis) -> None:
    run = sent(ledger, cloud)
    say(run.began())
    client.zadd("leases", {run.job: 1})
    assert ledger.reap() == ([run.job], [])
    claim = ledger.claim(run.job, PLACE, owner="b" * 16)
    assert isinstance(claim, Claim)
    say(run.alive(), *run.ended("too late"))

    assert (ledger.read(run.job).worker, ledger.read(run.job).state) == (PLACE.worker, State.RUNNING)


@pytest.mark.parametrize(("outcome", "says"), [
    ("{", "cannot be read"), ('{"state":"queued"}', "not succeeded or failed"), ('{"state":"asleep"}', "cannot be read"),
    ('{"state":"succeeded","result":"{"}', "cannot be read")])
def test_an_outcome_that_is_none_is_refused_after_all_else_in_its_report_was_recorded(
        ledger: Ledger, cloud: CloudLedger, say: Callable[..., None], outcome: str, says: str) -> None:
    bad, good = sent(ledger, cloud), sent(ledger, cloud)
    broken = msgspec.structs.replace(bad.ended()[0], outcome=outcome)
    with pytest.raises(MalformedReport, match=says):
        say(broken, *good.ended())

    assert (ledger.read(bad.job).state, ledger.read(good.job).state) == (State.RUNNING, State.SUCCEEDED)
