"""Jobs are sent to the cloud, and begun there by one run each; every call also made twice."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import redis

from app import queues
from app.job import Route, Service, State
from app.ledger import Claim, CloudLedger, Ending, Ledger, new_owner
from app.settings import Settings
from tests.ledger_cloud import BY_HAND, NOW_MS, RULES, begun_job, send, sent_job, travel, voids
from tests.ledger_cloud_rules import Repeating
from tests.model_cloud import OUT_THERE
from tests.model_ledger import PLACE, a_job, a_running_job, everything

# -- sent


def test_a_job_that_is_sent_waits_in_the_cloud_and_no_attempt_begins(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis, settings: Settings) -> None:
    new = a_job(trace="00-abc-def-01", deadline_s=60.0, input=b'{"prompt": "far"}')
    ledger.submit(new)

    sent = cloud.send_job(new.id, decision=BY_HAND, rules=RULES)

    assert isinstance(sent, Claim)
    assert sent == Claim(id=new.id, owner=sent.owner, attempt=0, errors=0, task="model.run", tenant="ann", input=new.input,
                         created_ms=NOW_MS, deadline_ms=NOW_MS + 60_000, trace="00-abc-def-01")
    job = ledger.read(new.id)
    assert (job.state, job.route, job.attempt, job.position, job.decision) == (State.QUEUED, Route.CLOUD, 0, None, BY_HAND)
    assert client.zrange("cloud", 0, -1, withscores=True) == [(new.id.encode(), NOW_MS + settings.cloud_wait_s * 1000)]
    assert (client.llen("model"), client.zcard("woken:model"), client.zcard("backlog:model")) == (0, 0, 0)


def test_those_that_would_wait_longest_are_sent_and_the_queue_here_stays_full(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis) -> None:
    client.hset("windows", "model", 2)
    ids = [ledger.submit(a_job()).job_id for _ in range(4)]

    assert [claim.id for claim in send(cloud, 2)] == [ids[3], ids[2]]
    assert [ledger.read(job_id).position for job_id in ids] == [0, 1, None, None]
    assert client.llen("model") == 2
    assert [claim.id for claim in send(cloud, 9)] == [ids[1], ids[0]]
    assert client.llen("model") == 0
    assert send(cloud, 1) == []


def test_hundreds_are_sent_and_had_back_in_one_call(ledger: Ledger, cloud: CloudLedger) -> None:
    ids = [ledger.submit(a_job()).job_id for _ in range(130)]

    sent = send(cloud, 110)
    assert [claim.id for claim in sent] == ids[:-111:-1]
    assert len({claim.owner for claim in sent}) == 110
    home = cloud.recall(job_ids=[claim.id for claim in sent[:60]], most=500)
    assert sorted(home) == sorted(ids[20:])
    assert [ledger.read(job_id).position for job_id in ids] == list(range(130)), "each has its old place"


def test_what_does_not_wait_here_cannot_be_sent(ledger: Ledger, cloud: CloudLedger) -> None:
    running, delayed = a_running_job(ledger), a_running_job(ledger)
    ledger.release(delayed, because="error", wait_s=60.0)
    first, held = (ledger.submit(a_job(line="l")).job_id for _ in range(2))
    ended = a_running_job(ledger)
    ledger.settle(ended, State.SUCCEEDED)
    away = sent_job(ledger, cloud)

    assert cloud.send_job(running.id, decision=BY_HAND, rules=RULES) is State.RUNNING
    assert [cloud.send_job(job_id, decision=BY_HAND, rules=RULES)
            for job_id in (delayed.id, held, away.id)] == [State.QUEUED] * 3
    assert cloud.send_job(ended.id, decision=BY_HAND, rules=RULES) is State.SUCCEEDED
    assert cloud.send_job("no-such-job", decision=BY_HAND, rules=RULES) is None
    assert [claim.id for claim in send(cloud, 9)] == [first]


def test_what_is_past_its_deadline_is_not_sent(ledger: Ledger, cloud: CloudLedger, client: redis.Redis) -> None:
    client.hset("windows", "model", 1)
    good = ledger.submit(a_job()).job_id
    late, later = (ledger.submit(a_job(deadline_s=1.0)).job_id for _ in range(2))
    travel(1, ledger, cloud)

    assert [claim.id for claim in send(cloud, 1)] == [good]
    assert client.llen("model") == 1, "the first of those left is not woken"
    assert cloud.send_job(late, decision=BY_HAND, rules=RULES) is State.EXPIRED
    assert ledger.expire() == [later]


def test_what_is_kept_comes_home_and_is_not_sent_with_others_again(ledger: Ledger, cloud: CloudLedger) -> None:
    too_long = sent_job(ledger, cloud)
    other = ledger.submit(a_job()).job_id

    assert cloud.keep(too_long.id, decision=b'{"rule":"too-large"}')
    assert ledger.read(too_long.id).decision == b'{"rule":"too-large"}'
    assert [claim.id for claim in send(cloud, 9)] == [other]
    assert isinstance(ledger.take(Service.MODEL, PLACE, owner=new_owner()), Claim)
    assert not cloud.keep(too_long.id, decision=b"{}"), "it runs"


def test_a_job_in_the_cloud_is_given_to_nobody_here(ledger: Ledger, cloud: CloudLedger) -> None:
    sent, begun = sent_job(ledger, cloud), begun_job(ledger, cloud)

    assert ledger.claim(sent.id, PLACE, owner=new_owner()) is State.QUEUED
    assert ledger.claim(begun.id, PLACE, owner=new_owner()) is State.RUNNING
    assert ledger.take(Service.MODEL, PLACE, owner=new_owner()) is None
    assert ledger.rewake(Service.MODEL) == 0


def test_the_flow_of_a_job_that_is_sent_need_not_wait_for_it_until_it_is_home(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis) -> None:
    def last_tag() -> float | None:
        return client.zscore("flows:model", "ann:standard")

    ledger.submit(a_job())
    one = last_tag()
    job_id = ledger.submit(a_job()).job_id
    two = last_tag()
    cloud.send_job(job_id, decision=BY_HAND, rules=RULES)
    assert last_tag() == one
    cloud.recall(job_ids=[job_id])
    assert last_tag() == two
    ledger.cancel(job_id)
    assert last_tag() == one


# -- begun


def test_the_first_run_of_a_ticket_begins_the_next_attempt_under_a_lease_of_the_cloud(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis, settings: Settings) -> None:
    sent = sent_job(ledger, cloud)
    travel(5, ledger, cloud)

    claim = cloud.begin(sent.id, sent.owner, OUT_THERE, run="r1")

    assert claim == dataclasses.replace(sent, owner="r1", attempt=1)
    job = ledger.read(sent.id)
    assert (job.state, job.route, job.attempt, job.started_ms) == (State.RUNNING, Route.CLOUD, 1, NOW_MS + 5000)
    assert (job.worker, job.server, job.processor, job.decision) == ("cloud@far", "cloud", None, BY_HAND)
    assert client.zscore("leases", sent.id) == NOW_MS + 5000 + settings.cloud_lease_s * 1000
    assert not client.exists("vtime"), "those here fall behind it"


def test_no_other_run_and_no_other_ticket_begins_it(ledger: Ledger, cloud: CloudLedger, client: redis.Redis) -> None:
    sent = sent_job(ledger, cloud)
    assert cloud.begin(sent.id, "forged", OUT_THERE, run="r0") is None
    assert cloud.begin("no-such-job", sent.owner, OUT_THERE, run="r0") is None
    first = cloud.begin(sent.id, sent.owner, OUT_THERE, run="r1")
    before = everything(client)

    assert cloud.begin(sent.id, sent.owner, OUT_THERE, run="r1") == first
    assert cloud.begin(sent.id, sent.owner, OUT_THERE, run="r2") is None
    assert cloud.begin(sent.id, "forged", OUT_THERE, run="r1") is None
    assert everything(client) == before


def test_of_many_runs_at_the_same_time_one_begins(ledger: Ledger, cloud: CloudLedger) -> None:
    sent = sent_job(ledger, cloud)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda run: cloud.begin(sent.id, sent.owner, OUT_THERE, run=f"r{run}"), range(32)))

    assert len([claim for claim in claims if claim]) == 1


def test_an_old_ticket_begins_nothing_when_the_job_was_sent_anew(ledger: Ledger, cloud: CloudLedger) -> None:
    old = sent_job(ledger, cloud)
    cloud.recall(job_ids=[old.id])
    assert cloud.begin(old.id, old.owner, OUT_THERE, run="r1") is None
    [new] = send(cloud, 1)

    assert cloud.begin(old.id, old.owner, OUT_THERE, run="r1") is None
    assert cloud.begin(new.id, new.owner, OUT_THERE, run="r2")


def test_a_late_run_ends_the_job_as_late(ledger: Ledger, cloud: CloudLedger, client: redis.Redis) -> None:
    sent = sent_job(ledger, cloud, deadline_s=1.0)
    travel(1, ledger, cloud)

    assert cloud.begin(sent.id, sent.owner, OUT_THERE, run="r1") is None
    assert ledger.read(sent.id).state is State.EXPIRED
    assert voids(client) == [(sent.id, sent.owner, "")]


def test_a_run_is_kept_alive_by_renewing_its_lease(ledger: Ledger, cloud: CloudLedger, settings: Settings) -> None:
    claim, ended = begun_job(ledger, cloud), begun_job(ledger, cloud)
    ledger.cancel(ended.id)
    for _ in range(3):
        travel(settings.cloud_lease_s - 1, ledger, cloud)
        assert cloud.renew([claim, ended, dataclasses.replace(claim, owner="r2")]) == [True, False, False]
        assert ledger.reap() == ([], [])
    assert cloud.renew([]) == []


# -- lost replies, and who looks


def test_calls_whose_replies_were_lost_are_answered_again_and_change_nothing(
        ledger: Ledger, cloud: Repeating, client: redis.Redis) -> None:
    ids = [ledger.submit(a_job()).job_id for _ in range(6)]
    cloud.times = 2  # the wrapper compares the answers

    sent = send(cloud, 2)
    assert [claim.id for claim in sent] == [ids[5], ids[4]]
    assert isinstance(cloud.send_job(ids[0], decision=BY_HAND, rules=RULES), Claim)
    assert cloud.recall(most=1) == [ids[5]]
    claim = cloud.begin(sent[1].id, sent[1].owner, OUT_THERE, run="r1")
    assert claim
    assert (cloud.part(claim, 0, 2, "a"), cloud.part(claim, 1, 2, "b")) == (None, "ab")
    assert cloud.keep(ids[0], decision=BY_HAND)
    assert (client.zcard("waiting:model"), client.zcard("cloud"), client.zcard("leases")) == (5, 0, 1)
    assert len(voids(client)) == 2
    assert (ledger.census().counts["sent"], ledger.census().counts["came_home"]) == (3, 2)


def test_the_queues_show_what_is_sent_and_what_runs_in_the_cloud(
        ledger: Ledger, cloud: CloudLedger, client: redis.Redis) -> None:
    sent_job(ledger, cloud)
    begun_job(ledger, cloud)
    begun_job(ledger, cloud)
    a_running_job(ledger)
    a_running_job(ledger, service=Service.AUTH)

    found = queues.read(client)
    model, auth = found[Service.MODEL], found[Service.AUTH]
    assert (model.sent, model.running, model.in_cloud, model.waiting) == (1, 3, 2, 0)
    assert (auth.sent, auth.running, auth.in_cloud) == (0, 1, 0)
    assert (ledger.census().cloud, ledger.census().live) == (1, 5)


def test_how_jobs_end_in_the_cloud_is_counted_but_for_what_the_caller_got_wrong(
        ledger: Ledger, cloud: CloudLedger) -> None:
    def ended(state: State, error: bytes = b"") -> None:
        claim = begun_job(ledger, cloud)
        for _ in range(2):  # a reply that was lost
            ledger.settle(claim, state, Ending(error=error, result=b"" if error else b"{}"))

    ended(State.SUCCEEDED)
    ended(State.FAILED, b'{"code":"engine-failed","detail":"x","fault":"engine"}')
    ended(State.FAILED, b'{"code":"prompt-too-long","detail":"x","fault":"caller"}')
    at_home = ledger.claim(ledger.submit(a_job()).job_id, PLACE, owner="o1")
    assert isinstance(at_home, Claim)
    ledger.settle(at_home, State.FAILED, Ending(error=b'{"code":"engine-failed","detail":"x","fault":"engine"}'))

    counts = ledger.census().counts
    assert (counts["cloud_succeeded"], counts["cloud_failed"]) == (1, 1)
