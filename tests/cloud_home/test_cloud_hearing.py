"""Reports of cloud workers, from the queue in MNS into the ledger: by one thread or several, through outages of both
sides."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import redis

from app.announcements import Announcements
from app.cloud_registry import CloudRegistry
from app.following import Following
from app.job import Job, Route, State, new_job_id
from app.ledger import Ledger
from app.settings import Settings
from app.store import open_redis
from app.streams import Streams
from ops.embedded_redis import free_port, start
from ops.mns_server import Fault, LocalMns
from ops.sandbox import kill
from ops.waiting import wait_until
from routing.cloud import broker, words
from routing.cloud.post import Post
from tests.cloud_home.at_work import SOON_S, books, hearing, sent, settled, wait_for
from tests.cloud_home.stand_in import Run, StandIn


def disorder(mns: LocalMns, settings: Settings) -> None:
    """Have reports handed out in disorder, and some twice."""
    queue = broker.results_queue(settings)
    mns.faults.add(Fault(operation="ReceiveMessage", queue=queue, kind="reorder"))
    mns.faults.add(Fault(operation="ReceiveMessage", queue=queue, kind="duplicate", probability=0.3))


def test_what_a_cloud_worker_reports_is_recorded_and_then_acknowledged(
        client: redis.Redis, settings: Settings, ledger: Ledger, worker: StandIn, mns: LocalMns) -> None:
    run, newcomers, answers = sent(client, settings), list[str](), list[bytes]()
    with hearing(settings, appeared=newcomers.append, recorded=lambda _, result, __: answers.append(result)):
        worker.send(run.began(), run.said(0, "hel"))
        worker.send(run.said(3, "lo"), *run.ended("hello"))
        wait_for(ledger, run, State.SUCCEEDED)
        wait_until(lambda: settled(mns, settings), timeout_s=SOON_S, what="the reports to be acknowledged")

    job = ledger.read(run.job)
    assert (job.route, job.server, job.worker, job.processor, job.attempt) == ("cloud", "cloud", "cloud@a", "P11", 1)
    assert "".join(piece.text for piece in ledger.said(run.job).pieces) == "hello"
    assert (newcomers, answers) == (["cloud@a"], [job.result])
    assert books(mns, settings)["deleted"] == 2


def test_a_follower_is_told_what_a_job_in_the_cloud_says_in_order_though_it_comes_in_disorder(
        client: redis.Redis, settings: Settings, ledger: Ledger, worker: StandIn, mns: LocalMns, streams: Streams,
        announcements: Announcements) -> None:
    run = sent(client, settings)
    text = "".join(f"word {number}, " for number in range(40))
    disorder(mns, settings)
    for first in range(0, len(text), 9):
        worker.send(run.said(first, text[first:first + 9]))
    worker.send(run.began())
    following = Following(run.job, "ann", ledger=ledger)
    told = list(following.begin())
    with hearing(settings):
        wait_until(lambda: ledger.said(run.job).total == len(text), timeout_s=SOON_S, what="everything to be said")
        worker.send(*run.ended(text))
        for events in following.events(streams, announcements):
            told += events

    assert [event.name for event in told if event.name != "token"] == ["queued", "started", "succeeded"]
    tokens = [event.data for event in told if event.name == "token"]
    assert "".join(str(data["text"]) for data in tokens if isinstance(data, dict)) == text
    assert isinstance(told[-1].data, Job)
    assert told[-1].data.route is Route.CLOUD


def test_two_threads_that_compete_record_each_job_once(
        client: redis.Redis, settings: Settings, ledger: Ledger, worker: StandIn, mns: LocalMns) -> None:
    runs = [sent(client, settings) for _ in range(12)]
    disorder(mns, settings)
    with hearing(settings), hearing(settings, "queue@server-2"):
        for run in runs:
            worker.send(run.began())
            worker.send(run.said(0, "so "))
            worker.send(run.said(3, "be it"))
            for part in run.ended("so be it", of=3):
                worker.send(part)
        for run in runs:
            wait_for(ledger, run, State.SUCCEEDED)
        wait_until(lambda: settled(mns, settings), timeout_s=SOON_S, what="the reports to be acknowledged")

    for run in runs:
        job = ledger.read(run.job)
        assert (job.recorded, job.attempt) == (1, 1)
    found = books(mns, settings)
    assert (found["sent"], found["deleted"], found["dead"], found["expired"]) == (72, 72, 0, 0)
    assert ledger.census().balanced


# -- outages


def test_while_redis_is_away_reports_wait_and_none_is_lost(
        settings: Settings, mns: LocalMns, tmp_path: Path, counted: Callable[[str], int]) -> None:
    server = start(tmp_path / "redis")
    settings = replace(settings, redis_url=server.url, redis_timeout_s=0.5)
    worker = StandIn(settings)
    with open_redis(settings) as client, hearing(settings):
        runs = [sent(client, settings) for _ in range(3)]
        worker.send(runs[0].began())
        ledger = Ledger(client, settings)
        wait_for(ledger, runs[0], State.RUNNING)
        kill(server.process.pid)
        server.process.wait()
        for run in runs:
            worker.send(*run.ended())
        wait_until(lambda: counted("ledger_unreachable") > 1, timeout_s=SOON_S, what="the ledger to be missed")
        assert books(mns, settings)["deleted"] == 1
        server = start(tmp_path / "redis", port=server.port)
        for run in runs:
            wait_for(ledger, run, State.SUCCEEDED)
        wait_until(lambda: settled(mns, settings), timeout_s=SOON_S, what="the reports to be acknowledged")
        assert (books(mns, settings)["deleted"], ledger.census().balanced) == (4, True)
    worker.close()
    server.stop()


def test_a_thread_that_is_stopped_while_redis_is_away_gives_its_reports_back(
        settings: Settings, mns: LocalMns, worker: StandIn, tmp_path: Path, counted: Callable[[str], int]) -> None:
    nowhere = replace(settings, redis_url=f"redis://127.0.0.1:{free_port()}/0", redis_timeout_s=0.5)
    with hearing(nowhere) as one:
        worker.send(Run(new_job_id(), "t").began())
        wait_until(lambda: counted("ledger_unreachable"), timeout_s=SOON_S, what="the ledger to be missed")
        one.stop()
        began_s = time.monotonic()
        one.join(10)
        assert time.monotonic() - began_s < 5

    wait_until(lambda: books(mns, settings)["active"] == 1, timeout_s=SOON_S, what="the report to be there for others")


def test_while_mns_is_away_it_is_tried_again_and_operators_are_told(
        client: redis.Redis, settings: Settings, ledger: Ledger, counted: Callable[[str], int]) -> None:
    port = free_port()
    settings = replace(settings, mns_url=f"mns://127.0.0.1:{port}")
    registry = CloudRegistry(client)
    run = sent(client, settings)
    with hearing(settings):
        (link,) = wait_until(registry.links, timeout_s=SOON_S, what="the thread to say that it reaches nobody")
        assert (link.who, link.reachable) == ("queue@server-1 hearing", False)
        assert "127.0.0.1" in link.why
        with LocalMns.running([("id", "secret")], objects=False, port=port):
            wait_until(lambda: registry.links()[0].reachable, timeout_s=SOON_S, what="the thread to reach MNS")
            with Post(settings) as post:
                report = words.body("report", StandIn(settings).report(*run.ended()))
                post.send(broker.results_queue(settings), broker.REPORT_TASK, report, message_id=run.job)
            wait_for(ledger, run, State.SUCCEEDED)

    assert (counted("cloud_unreachable"), counted("cloud_reachable")) == (1, 1)
    assert registry.links() == []
