"""Jobs on their way to the cloud: what goes out, and what comes home when MNS does not take it, or may have."""

import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from app import logs
from app.job import Route, State, new_job_id
from app.ledger import CloudLedger, Ledger
from app.routing_rules import Rules
from app.settings import Settings
from ops.embedded_redis import free_port
from ops.mns_server import Fault, LocalMns
from routing.cloud import broker
from routing.cloud.post import NotPosted, PerhapsPosted, Post
from routing.cloud.sending import Sender, Sent
from routing.recovery import Recovery
from tests.cloud_home.stand_in import Run, StandIn
from tests.model_ledger import PLACE, a_job, a_running_job

DECISION = b'{"rule":"by-hand","detail":"the test says so"}'
RULES = Rules()
LATER_MS = 10_000_000


@pytest.fixture
def sender(cloud: CloudLedger, settings: Settings) -> Iterator[Sender]:
    with Post(settings) as post:
        yield Sender(cloud, post, settings)


def send(sender: Sender, job_id: str) -> Sent:
    sent = sender.send_job(job_id, decision=DECISION, rules=RULES)
    assert isinstance(sent, Sent)
    return sent


def is_home(ledger: Ledger, job_id: str) -> bool:
    """Whether a worker at home can take the job."""
    job = ledger.read(job_id)
    return job.state is State.QUEUED and job.route is Route.LOCAL and job.position is not None


def test_a_job_is_sent_with_all_that_a_worker_out_there_needs(ledger: Ledger, sender: Sender, worker: StandIn) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    job_id = ledger.submit(a_job(input='{"prompt":"你好"}'.encode(), trace=trace, deadline_s=60.0)).job_id
    result = send(sender, job_id)
    errand = worker.errand()

    job = ledger.read(job_id)
    assert (result.sent, result.perhaps, result.kept, result.failure) == ([job_id], [], {}, None)
    assert (errand.job, errand.task, errand.input, errand.trace) == (job_id, "model.run", '{"prompt":"你好"}', trace)
    assert (errand.errors, errand.deadline_ms) == (0, job.deadline_ms)
    assert (job.state, job.route, job.decision) == (State.QUEUED, Route.CLOUD, DECISION)


def test_the_ticket_of_the_errand_is_what_begins_the_job(ledger: Ledger, cloud: CloudLedger, sender: Sender,
                                                         worker: StandIn) -> None:
    job_id = ledger.submit(a_job()).job_id
    send(sender, job_id)
    errand = worker.errand()
    run = Run(errand.job, errand.ticket)

    assert cloud.begin(job_id, run.ticket, PLACE, run=run.run)


def test_errors_of_attempts_at_home_are_told_along(ledger: Ledger, sender: Sender, worker: StandIn) -> None:
    claim = a_running_job(ledger)
    ledger.release(claim, because="error")
    send(sender, claim.id)

    assert worker.errand().errors == 1


def test_those_that_would_wait_longest_are_sent_as_many_as_asked_for(
        settings: Settings, ledger: Ledger, sender: Sender, worker: StandIn, mns: LocalMns) -> None:
    jobs = [ledger.submit(a_job()).job_id for _ in range(40)]
    result = sender.send_waiting(35, decision=DECISION, rules=RULES)

    assert sorted(result.sent) == sorted(jobs[5:])
    assert mns.audit(broker.jobs_queue(settings))["active"] == 35
    assert {worker.errand().job for _ in range(3)} <= set(jobs)


def test_where_fewer_wait_fewer_are_sent(ledger: Ledger, sender: Sender) -> None:
    jobs = [ledger.submit(a_job()).job_id for _ in range(2)]

    assert sorted(sender.send_waiting(100, decision=DECISION, rules=RULES).sent) == sorted(jobs)
    assert sender.send_waiting(100, decision=DECISION, rules=RULES).sent == []


def test_a_job_that_does_not_wait_here_is_not_sent(settings: Settings, ledger: Ledger, sender: Sender,
                                                   mns: LocalMns) -> None:
    running, sent = a_running_job(ledger).id, send(sender, ledger.submit(a_job()).job_id).sent[0]

    assert sender.send_job(new_job_id(), decision=DECISION, rules=RULES) is None
    assert sender.send_job(running, decision=DECISION, rules=RULES) is State.RUNNING
    assert sender.send_job(sent, decision=DECISION, rules=RULES) is State.QUEUED
    assert mns.audit(broker.jobs_queue(settings))["sent"] == 1


# -- MNS does not take it


def test_while_mns_is_away_jobs_stay_here(client: redis.Redis, settings: Settings, ledger: Ledger,
                                          cloud: CloudLedger) -> None:
    nowhere = replace(settings, mns_url=f"mns://127.0.0.1:{free_port()}")
    jobs = [ledger.submit(a_job()).job_id for _ in range(5)]
    with Post(nowhere) as post:
        result = Sender(cloud, post, nowhere).send_waiting(5, decision=DECISION, rules=RULES)

    assert (result.sent, result.perhaps) == ([], [])
    assert isinstance(result.failure, NotPosted)
    assert "127.0.0.1" in str(result.failure)
    assert all(is_home(ledger, job_id) for job_id in jobs)
    assert ledger.census().cloud == 0


def test_a_wrong_key_is_told_as_such_and_the_job_stays_here(settings: Settings, ledger: Ledger, cloud: CloudLedger) -> None:
    Path(settings.mns_credentials).write_text('{"access_key_id": "id", "access_key_secret": "another"}')
    job_id = ledger.submit(a_job()).job_id
    with Post(settings) as post:
        result = send(Sender(cloud, post, settings), job_id)

    assert isinstance(result.failure, NotPosted)
    assert "secret" in str(result.failure)
    assert "another" not in str(result.failure)
    assert is_home(ledger, job_id)


def test_what_mns_refuses_for_the_moment_stays_here_and_so_does_what_would_follow(
        settings: Settings, ledger: Ledger, sender: Sender, mns: LocalMns) -> None:
    first = ledger.submit(a_job()).job_id
    send(sender, first)
    mns.faults.add(Fault(operation="SendMessage", kind="status", status=429, code="TooManyRequests"))
    jobs = [ledger.submit(a_job()).job_id for _ in range(20)]
    result = sender.send_waiting(20, decision=DECISION, rules=RULES)

    assert isinstance(result.failure, NotPosted)
    assert (result.sent, mns.audit(broker.jobs_queue(settings))["sent"]) == ([], 1)
    assert all(is_home(ledger, job_id) for job_id in jobs)


@pytest.mark.parametrize(("kind", "stored"), [("drop_after", 2), ("drop_before", 1)])
def test_where_nobody_can_say_whether_mns_took_it_the_job_comes_home_unless_it_is_begun(
        client: redis.Redis, settings: Settings, ledger: Ledger, sender: Sender, mns: LocalMns, kind: Any,
        stored: int) -> None:
    send(sender, ledger.submit(a_job()).job_id)
    job_id = ledger.submit(a_job()).job_id
    mns.faults.add(Fault(operation="SendMessage", kind=kind, times=1))
    result = send(sender, job_id)

    assert isinstance(result.failure, PerhapsPosted)
    assert result.perhaps == [job_id]
    assert ledger.read(job_id).route is Route.CLOUD
    assert mns.audit(broker.jobs_queue(settings))["sent"] == stored
    later = CloudLedger(client, settings, now_ms=ledger.read(job_id).created_ms + LATER_MS)
    assert job_id in later.come_home()
    assert is_home(ledger, job_id)


class Killed(BaseException):
    """The process ends here."""


def test_of_a_sender_that_is_killed_between_two_messages_what_went_out_counts_and_the_rest_comes_home(
        client: redis.Redis, settings: Settings, cloud: CloudLedger, ledger: Ledger, worker: StandIn,
        monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = {ledger.submit(a_job()).job_id for _ in range(20)}
    posted: list[str] = []

    def send_two(post: Post, *args: Any, message_id: str, really: Any = Post.send) -> None:
        if len(posted) == 2:
            raise Killed
        really(post, *args, message_id=message_id)
        posted.append(message_id)

    monkeypatch.setattr(Post, "send", send_two)
    with Post(settings) as post, pytest.raises(Killed):
        Sender(cloud, post, settings).send_waiting(20, decision=DECISION, rules=RULES)
    monkeypatch.undo()
    errands = [worker.errand() for _ in range(2)]
    assert {errand.job for errand in errands} == set(posted)
    assert cloud.begin(errands[0].job, errands[0].ticket, PLACE, run=Run(errands[0].job, errands[0].ticket).run)

    later = CloudLedger(client, settings, now_ms=ledger.read(errands[0].job).created_ms + LATER_MS)
    assert len(later.come_home()) == 15, "of the sixteen that the ledger had let go of"
    assert all(is_home(ledger, job_id) for job_id in jobs - {errands[0].job})
    assert later.begin(errands[1].job, errands[1].ticket, PLACE, run="too late") is None


def test_the_recovery_task_brings_home_what_nobody_has_begun(
        client: redis.Redis, settings: Settings, ledger: Ledger, sender: Sender) -> None:
    jobs = [ledger.submit(a_job()).job_id for _ in range(3)]
    sender.send_waiting(3, decision=DECISION, rules=RULES)
    before = logs.counters["job_lapsed"]
    for job_id in jobs[:2]:
        client.zadd("cloud", {job_id: 1})
    Recovery(client, settings, who="a test").round()

    assert [is_home(ledger, job_id) for job_id in jobs] == [True, True, False]
    assert logs.counters["job_lapsed"] - before == 2


# -- too large


def a_large_input() -> bytes:
    """More than MNS takes in one message, however it is compressed."""
    return msgspec.json.encode({"prompt": secrets.token_hex(120_000)})


def test_what_is_too_large_stays_here_with_the_reason_and_is_not_tried_again(
        ledger: Ledger, sender: Sender, mns: LocalMns) -> None:
    small = ledger.submit(a_job()).job_id
    large = [ledger.submit(a_job(input=a_large_input())).job_id for _ in range(20)]
    result = sender.send_waiting(30, decision=DECISION, rules=RULES)

    assert (result.sent, sorted(result.kept), result.failure) == ([small], sorted(large), None)
    assert all(is_home(ledger, job_id) for job_id in large)
    decision = msgspec.json.decode(ledger.read(large[0]).decision or b"")
    assert decision["rule"] == "too-large-for-cloud"
    assert decision["detail"] == result.kept[large[0]]
    assert "store" in decision["detail"]
    again = sender.send_waiting(30, decision=DECISION, rules=RULES)
    assert (again.sent, again.kept) == ([], {})


def test_with_a_store_what_is_large_goes_by_it(settings: Settings, ledger: Ledger, cloud: CloudLedger,
                                               tmp_path: Path) -> None:
    settings = replace(settings, cloud_store=f"file://{tmp_path}/store")
    body = a_large_input()
    job_id = ledger.submit(a_job(input=body)).job_id
    worker = StandIn(settings)
    with Post(settings) as post:
        assert send(Sender(cloud, post, settings), job_id).sent == [job_id]

    assert worker.errand().input.encode() == body
    worker.close()
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()], "what was taken is gone"
