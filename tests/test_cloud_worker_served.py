"""A whole cloud worker, as a process of its own, with a local MNS between it and home."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ops.mns_server import Fault, LocalMns
from ops.waiting import wait_until
from routing.cloud import broker, words
from tests.cloud_worker import KEY, CloudWorker, Home, redis_bait, worker_of, workers_of
from tests.upstream import KEY as SECRET
from tests.upstream import delta, streams, upstream, usage, wait_and_say


@pytest.fixture(scope="module")
def mns() -> Iterator[LocalMns]:
    """A local MNS for all tests here; each home has a corner of its own."""
    with LocalMns.running([KEY]) as one:
        yield one


@pytest.fixture(scope="module")
def home(mns: LocalMns, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """The home of the shared worker. In the end no message of its is left."""
    with Home.beside(mns, tmp_path_factory.mktemp("home"), "shared") as one:
        yield one


@pytest.fixture(scope="module")
def worker(home: Home) -> Iterator[CloudWorker]:
    """A worker that tests leave running. It never connects to the Redis that runs beside it."""
    with redis_bait(home.folder) as redis, worker_of(home) as one:
        yield one
        assert one.end() == 0
        with pytest.raises(BlockingIOError):
            redis.accept()
    audit = home.audit()
    assert audit["active"] == audit["inactive"] == audit["delayed"] == audit["dead"] == 0
    assert audit["sent"] == audit["deleted"]


def test_a_job_is_run_and_reported_in_order_while_it_runs(home: Home, worker: CloudWorker) -> None:
    errand = home.send("[think] let me see [answer] [stall 300ms] one [stall 300ms] two [stall 300ms] three")
    outcome = home.outcome(errand)

    assert (outcome.state, json.loads(outcome.result)["text"]) == ("succeeded", "one two three")
    assert json.loads(outcome.result)["reasoning_content"] == "let me see"
    assert json.loads(outcome.usage)["completion_tokens"] == 6
    assert len(home.heard(errand, words.Began)) == 1
    assert len(home.heard(errand, words.Said)) >= 3, "it is told in pieces"
    assert "let me seeone two three".startswith(home.said(errand))
    assert home.heard(errand, words.Alive), "and said to live"
    line = worker.logs("run_ended", job=errand.job)
    assert errand.ticket not in json.dumps([*worker.events("run_began"), line])


def test_each_report_tells_of_the_worker(home: Home, worker: CloudWorker) -> None:
    errand = home.send("[stall 1500ms] x")
    busy = wait_until(lambda: next((report.worker for report in home.reports if report.worker.busy), None), timeout_s=20,
                      what="a report of a busy worker")
    assert (busy.name, busy.slots, busy.engine, busy.processor, busy.stopping) == (worker.name, 2, "scripted", "", False)
    home.outcome(errand)


def test_an_answer_of_200_kilobytes_comes_in_parts_through_messages_of_64(home: Home, worker: CloudWorker) -> None:
    errand = home.send("", input=json.dumps({"prompt": "[repeat 30000 abcdef]", "max_tokens": 30_000}))
    outcome = home.outcome(errand)

    assert json.loads(outcome.result)["text"] == " ".join(["abcdef"] * 30_000)
    assert len(home.heard(errand, words.Ended)) >= 8


def test_a_prompt_of_60_000_chinese_characters_comes_in_and_its_answer_goes_back(home: Home, worker: CloudWorker) -> None:
    prompt = "".join(chr(0x4E00 + 7 * number % 20_000) for number in range(60_000))
    errand = home.send(prompt)
    assert list((home.folder / "store").iterdir()), "the errand is too large for a message"

    assert json.loads(home.outcome(errand).result)["text"] == prompt
    wait_until(lambda: not [path for path in (home.folder / "store").rglob("*") if path.is_file()], timeout_s=10,
               what="the errand's body to be deleted")


def test_a_void_ticket_that_was_told_before_is_not_run(home: Home, worker: CloudWorker) -> None:
    ticket = "5e" * 16
    home.void(worker.name, ticket)
    wait_until(lambda: home.audit("stops-" + worker.name)["deleted"], timeout_s=10, what="the stop to be heard")
    errand = home.send("never", ticket=ticket)
    worker.logs("errand_void", job=errand.job)
    assert home.heard(errand, words.Began) == []


def test_a_run_that_becomes_void_stops_between_two_tokens(home: Home, worker: CloudWorker) -> None:
    errand = home.send("[stall 60s] never")
    began = home.hears(errand, words.Began)
    home.void(worker.name, began.run)
    assert worker.logs("run_void", job=errand.job)["run"] == began.run.rpartition(".")[2]
    assert home.heard(errand, words.Ended) + home.heard(errand, words.GaveBack) == []


def test_what_is_no_errand_is_deleted_and_the_worker_goes_on(home: Home, worker: CloudWorker) -> None:
    jobs = broker.jobs_queue(home.settings)
    home.post(jobs, broker.RUN_TASK, {"errand": {"job": 5}})
    home.post(jobs, broker.RUN_TASK, {})
    home.post(jobs, "no.such.task", {"errand": "a prompt"})
    for body, headers in (([], {"task": broker.RUN_TASK, "id": "x"}), ([[], {}, {}], {"task": broker.RUN_TASK}),
                          ([[], "a prompt", {}], {"task": broker.RUN_TASK, "id": "x"}), ("a prompt", {})):
        home.put(jobs, body, headers)
    stops = broker.stops_queue(home.settings, worker.name)
    home.post(stops, broker.STOP_TASK, {"stops": "x"})
    home.put(stops, "a prompt", {"task": broker.STOP_TASK, "compression": "application/x-gzip"})  # which it is not

    assert json.loads(home.outcome(home.send("alive")).result)["text"] == "alive"
    wait_until(lambda: len(worker.events("stops_malformed")) == 2, timeout_s=10, what="what stops nothing to be deleted")
    wait_until(lambda: len(worker.events("errand_malformed")) == 2, timeout_s=10, what="both to be refused")
    wait_until(lambda: len(worker.events("message_deleted")) == 5, timeout_s=10, what="what is no errand to be deleted")
    wait_until(lambda: home.audit()["inactive"] == 0, timeout_s=20, what="all of them to be gone")
    assert not worker.events("stops_failed")
    assert "a prompt" not in worker.log.read_text(encoding="utf-8")


def test_a_job_longer_than_three_visibility_periods_runs_once(home: Home, worker: CloudWorker) -> None:
    errand = home.send("[stall 7s] done")
    assert json.loads(home.outcome(errand).result)["text"] == "done"
    assert len(home.heard(errand, words.Began)) == 1
    assert len(worker.events("errand_again")) == 0
    assert home.settings.mns_visibility_s * 3 < 7


def test_while_mns_is_away_a_run_goes_on_and_its_end_is_told_afterwards(
        mns: LocalMns, home: Home, worker: CloudWorker) -> None:
    errand = home.send("one [stall 1s] two")
    home.hears(errand, words.Said)
    with faulty(mns, Fault(status=503, code="ServiceUnavailable", queue="shared-*")):
        worker.logs("mns_unreachable")
        assert not home.heard(errand, words.Ended)

    assert json.loads(home.outcome(errand).result)["text"] == "one two"
    worker.logs("mns_reachable")
    assert len({word.run for word in home.heard(errand, words.Began)}) == 1


@pytest.mark.parametrize("operation", ["SendMessage", "ReceiveMessage"])
def test_an_errand_that_comes_twice_at_a_time_is_run_once(
        mns: LocalMns, home: Home, worker: CloudWorker, operation: str) -> None:
    with faulty(mns, Fault(operation=operation, queue="shared-jobs", kind="duplicate")):
        if operation == "ReceiveMessage":  # the poll under way began before
            wait_until(lambda: mns.faults.report()[0]["hits"], timeout_s=20, what="the next poll")
        errand = home.send("[stall 2s] done")  # longer than it takes to find that the first lease is lost
        again = worker.logs("errand_again", job=errand.job)
    assert json.loads(home.outcome(errand).result)["text"] == "done"
    assert again["same_message"] == (operation == "ReceiveMessage")
    assert len({word.run for word in home.heard(errand, words.Began)}) == 1
    wait_until(lambda: home.audit()["inactive"] == home.audit()["active"] == 0, timeout_s=10, what="both to be deleted")


def test_a_run_whose_message_may_be_anothers_goes_on(mns: LocalMns, home: Home, worker: CloudWorker) -> None:
    errand = home.send("[stall 2s] done")  # longer than a visibility period
    home.hears(errand, words.Began)
    gone = Fault(operation="ChangeMessageVisibility", queue="shared-jobs", status=404, code="MessageNotExist")
    with faulty(mns, gone):
        assert json.loads(home.outcome(errand).result)["text"] == "done"
        assert mns.faults.report()[0]["hits"]
    assert len({word.run for word in home.heard(errand, words.Ended)}) == 1
    wait_until(lambda: home.audit()["inactive"] == home.audit()["active"] == 0, timeout_s=10, what="it to be deleted")


@contextmanager
def faulty(mns: LocalMns, fault: Fault) -> Iterator[None]:
    """MNS with a fault, as long as the block takes."""
    mns.faults.add(fault)
    try:
        yield
    finally:
        mns.faults.clear()


@pytest.fixture
def own(mns: LocalMns, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Home]:
    """A home whose workers a test may end."""
    with Home.beside(mns, tmp_path_factory.mktemp("own"), f"own-{abs(hash(request.node.name)) % 10**6}") as one:
        yield one


def test_what_a_killed_worker_ran_is_run_by_another_as_another_run(own: Home) -> None:
    with workers_of(own, "one", "other") as workers:
        errand = own.send("[stall 2s] done")
        first = own.hears(errand, words.Began)
        taker = next(report.worker.name for report in own.reports if first in report.words)
        victim, = [worker for worker in workers if worker.name == taker]
        victim.end(signal.SIGKILL)
        assert json.loads(own.outcome(errand).result)["text"] == "done"
    began = {report.worker.name for report in own.reports if any(isinstance(word, words.Began) for word in report.words)}
    assert began == {worker.name for worker in workers}
    assert first.run not in {word.run for word in own.heard(errand, words.Ended)}
    wait_until(lambda: own.audit()["inactive"] == own.audit()["active"] == 0, timeout_s=10, what="all to be deleted")


def test_a_worker_with_an_openai_engine_answers_and_told_to_end_gives_its_run_back_and_leaves_nothing_behind(
        mns: LocalMns, own: Home) -> None:
    answers = streams(delta(content="from "), delta(content="afar"), delta("stop"), usage(3, 2))
    with upstream(answers, wait_and_say(delta(content="never"))) as server, worker_of(
            own, "caller", engine="openai", openai_url=server.url, openai_key=SECRET, openai_model="m") as worker:
        assert json.loads(own.outcome(own.send("where from?")).result)["text"] == "from afar"
        errand = own.send("and then?")
        own.hears(errand, words.Said)
        assert worker.end(within_s=own.settings.shutdown_s + 5.0) == 0

        told = own.hears(errand, words.GaveBack)
        assert (told.because, told.why) == ("drain", "the worker goes down")
        worker.logs("worker_stopped")
        assert not any(secret in worker.log.read_text(encoding="utf-8") for secret in (SECRET, KEY[1]))
    last = own.reports[-1].worker
    assert (last.stopping, last.busy, last.engine) == (True, 0, "openai")
    assert own.audit()["inactive"] == own.audit()["active"] == 0
    assert mns.service.names(prefix=f"{own.settings.mns_prefix}-stops", most=1) == ([], False), "nobody needs it any more"
