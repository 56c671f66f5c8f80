"""Jobs leave the cloud: ended by their run, given back, recalled, lost, cancelled or late; alone and tied to other jobs."""

import json
from collections.abc import Callable

import pytest
import redis

from app.job import Lane, Route, Service, State
from app.ledger import CloudLedger, Ending, Ledger, Settled, new_owner
from app.settings import Settings
from tests.ledger_cloud import BY_HAND, RULES, begun_job, is_home, send, sent_job, travel, voids
from tests.model_cloud import OUT_THERE
from tests.model_ledger import PLACE, a_job

# -- ended out there


def test_a_run_out_there_is_settled_as_any_and_says_nothing_of_the_pace_here(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis) -> None:
    claim = begun_job(ledger, cloud, metered=True, webhook_url="https://ann.example/hook")
    cloud.part(claim, 0, 2, "half")
    travel(3, ledger, cloud)

    assert ledger.settle(claim, State.SUCCEEDED, Ending(result=b'{"text":"hi"}')) is Settled.RECORDED
    assert ledger.settle(claim, State.SUCCEEDED, Ending(result=b'{"text":"hi"}')) is Settled.AGAIN
    job = ledger.read(claim.id)
    assert (job.state, job.route, job.result, job.server) == (State.SUCCEEDED, Route.CLOUD, b'{"text":"hi"}', "cloud")
    assert cloud.begin(claim.id, claim.owner.removesuffix(".1"), OUT_THERE, run=claim.owner) is None
    assert client.hgetall("pace") == {b"cloud": b"3000.0"}
    assert not client.exists(f"parts:{claim.id}", "void")
    assert [fields[b"event"] for _, fields in client.xrange("events:ann")] == [b"queued", b"started", b"succeeded"]


@pytest.mark.parametrize("because", ["error", "drain"])
def test_a_run_that_gives_its_job_back_has_it_tried_at_home(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis, because: str) -> None:
    claim = begun_job(ledger, cloud)

    assert ledger.release(claim, because=because) is Settled.RELEASED
    assert ledger.release(claim, because=because) is Settled.AGAIN
    assert is_home(ledger, client, claim.id)
    assert voids(client) == [(claim.id, claim.owner, "cloud@far")]
    again = ledger.take(Service.MODEL, PLACE, owner=new_owner())
    assert again
    assert (again.attempt, again.errors) == (2, int(because == "error"))


def test_what_is_given_back_after_an_error_may_wait_before_it_is_tried_at_home(
        ledger: Ledger, cloud: CloudLedger) -> None:
    claim = begun_job(ledger, cloud)
    ledger.release(claim, because="error", wait_s=3.0)
    assert ledger.take(Service.MODEL, PLACE, owner=new_owner()) is None
    travel(3, ledger)
    ledger.rewake(Service.MODEL)

    assert ledger.take(Service.MODEL, PLACE, owner=new_owner())


# -- home again


def test_what_nobody_begins_in_time_comes_home_and_no_attempt_counts_as_lost(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis, settings: Settings) -> None:
    sent, begun = sent_job(ledger, cloud), begun_job(ledger, cloud)
    travel(settings.cloud_wait_s - 0.001, ledger, cloud)
    assert cloud.come_home() == []
    cloud.renew([begun])
    travel(0.001, ledger, cloud)

    assert cloud.come_home() == [sent.id], "what has begun stays"
    assert is_home(ledger, client, sent.id)
    assert voids(client) == [(sent.id, sent.owner, "")]
    job = ledger.read(sent.id)
    assert (job.lost, job.attempt, json.loads(job.decision or b"")["rule"]) == (0, 0, "lapsed")
    assert cloud.come_home() == []


def test_a_recall_brings_home_what_has_not_begun_the_last_sent_first(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis) -> None:
    begun, *sent = begun_job(ledger, cloud), sent_job(ledger, cloud), sent_job(ledger, cloud), sent_job(ledger, cloud)

    assert cloud.recall(job_ids=[begun.id, sent[0].id, "no-such-job"]) == [sent[0].id]
    assert cloud.recall(most=1) == [sent[2].id]
    assert cloud.recall(most=5) == [sent[1].id]
    assert cloud.recall() == []
    assert all(is_home(ledger, client, claim.id) for claim in sent)
    assert ledger.read(begun.id).state is State.RUNNING


def test_a_job_that_comes_home_has_the_place_that_it_had(ledger: Ledger, cloud: CloudLedger) -> None:
    ids = [ledger.submit(a_job()).job_id for _ in range(3)]
    cloud.send_job(ids[1], decision=BY_HAND, rules=RULES)
    ledger.submit(a_job(tenant="bob"))
    cloud.recall(most=1)

    order = [claim.id for claim in iter(lambda: ledger.take(Service.MODEL, PLACE, owner=new_owner()), None)]
    assert [job_id for job_id in order if job_id in ids] == ids


def test_a_run_that_falls_silent_is_lost_and_its_late_end_refused_and_counted(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis, settings: Settings) -> None:
    claim = begun_job(ledger, cloud)
    travel(settings.cloud_lease_s, ledger, cloud)

    assert ledger.reap() == ([claim.id], [])
    assert is_home(ledger, client, claim.id)
    assert voids(client) == [(claim.id, claim.owner, "cloud@far")]
    assert ledger.read(claim.id).lost == 1
    assert ledger.settle(claim, State.SUCCEEDED, Ending(result=b'"late"')) is Settled.STALE
    assert ledger.release(claim, because="error") is Settled.STALE
    assert ledger.census().counts["stale"] == 2
    assert ledger.read(claim.id).state is State.QUEUED


def test_a_job_that_loses_too_many_runs_fails_out_there(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis, settings: Settings) -> None:
    claim = begun_job(ledger, cloud)
    for _ in range(settings.max_lost):
        travel(settings.cloud_lease_s, ledger, cloud)
        _, failed = ledger.reap()
        if not failed:
            [sent] = send(cloud, 1)
            assert cloud.begin(sent.id, sent.owner, OUT_THERE, run=f"{sent.owner}.1")

    assert failed == [claim.id]
    job = ledger.read(claim.id)
    assert (job.state, job.route, job.attempt) == (State.FAILED, Route.CLOUD, settings.max_lost)
    assert b"cloud@far" in (job.error or b"")
    assert len(voids(client)) == settings.max_lost


# -- ended by another


def late(ledger: Ledger, job_id: str) -> State:
    travel(60, ledger)
    assert ledger.expire() == [job_id]
    return ledger.read(job_id).state


@pytest.mark.parametrize(("end", "how_sent", "how_begun"), [
    (lambda ledger, job_id: ledger.cancel(job_id), State.CANCELLED, State.CANCELLED),
    (late, State.EXPIRED, State.CANCELLED)], ids=["cancelled", "late"])
def test_who_ends_a_job_in_the_cloud_need_not_wait_for_the_cloud(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis, end: Callable[[Ledger, str], State], how_sent: State,
        how_begun: State) -> None:
    with client.pubsub(ignore_subscribe_messages=True) as here:
        here.subscribe("stopped:cloud@far")
        here.get_message(timeout=5)
        sent, begun = sent_job(ledger, cloud, deadline_s=60.0), begun_job(ledger, cloud, deadline_s=120.0)

        assert end(ledger, sent.id) is how_sent
        assert end(ledger, begun.id) is how_begun
        assert here.get_message(timeout=0.2) is None, "no worker here runs it"
    assert voids(client) == [(sent.id, sent.owner, ""), (begun.id, begun.owner, "cloud@far")]
    assert cloud.begin(sent.id, sent.owner, OUT_THERE, run="r1") is None
    assert ledger.settle(begun, State.SUCCEEDED) is Settled.STALE
    assert [ledger.read(claim.id).recorded for claim in (sent, begun)] == [1, 1]
    assert cloud.renew([begun]) == [False]


# -- together with others


def test_a_leader_in_the_cloud_answers_those_who_came_before_and_after(ledger: Ledger, cloud: CloudLedger) -> None:
    leader = sent_job(ledger, cloud, fingerprint="f", lane=Lane.BATCH)
    before = ledger.submit(a_job(fingerprint="f", lane=Lane.INTERACTIVE)).job_id
    claim = cloud.begin(leader.id, leader.owner, OUT_THERE, run="r1")
    assert claim
    after = ledger.submit(a_job(fingerprint="f")).job_id
    ledger.settle(claim, State.SUCCEEDED, Ending(result=b'{"text":"hi"}'))

    for job in ledger.read_all([before, after]):
        assert job
        assert (job.state, job.route, job.server, job.worker) == (State.SUCCEEDED, Route.CLOUD, "cloud", "cloud@far")
        assert (job.attempt, job.result) == (1, b'{"text":"hi"}')


@pytest.mark.parametrize("phase", ["sent", "begun"])
def test_when_a_leader_ends_in_the_cloud_without_an_answer_the_first_follower_leads_at_home(
        ledger: Ledger, cloud: CloudLedger, phase: str) -> None:
    leader = (sent_job if phase == "sent" else begun_job)(ledger, cloud, fingerprint="f")
    second, third = (ledger.submit(a_job(fingerprint="f")).job_id for _ in range(2))
    ledger.cancel(leader.id)

    claim = ledger.take(Service.MODEL, PLACE, owner=new_owner())
    assert claim
    assert (claim.id, claim.attempt) == (second, 1 + (phase == "begun"))
    ledger.settle(claim, State.SUCCEEDED)
    assert [job and (job.state, job.route) for job in ledger.read_all([second, third])] \
        == [(State.SUCCEEDED, Route.LOCAL)] * 2


def test_the_next_of_a_line_waits_for_the_one_in_the_cloud(ledger: Ledger, cloud: CloudLedger) -> None:
    first = begun_job(ledger, cloud, line="l")
    second = ledger.submit(a_job(line="l")).job_id
    assert send(cloud, 9) == []
    assert ledger.take(Service.MODEL, PLACE, owner=new_owner()) is None
    ledger.settle(first, State.SUCCEEDED)

    assert [claim.id for claim in send(cloud, 9)] == [second]
