"""A job in the ledger: submitted, read, cancelled, forgotten; and the ledger without its Redis.

Every test ends with the books: accepted = ended + live. Attempts are in test_ledger_attempts.py, queues and lanes in
test_ledger_wakeups.py, deadlines and lost workers in test_ledger_recovery.py, any order of it all in
test_ledger_machine.py.
"""

import json
from collections.abc import Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.errors import JobGone, JobUnknown, StoreUnavailable
from app.job import Lane, Service, State
from app.ledger import Ending, Ledger, Settled, Submitted, new_owner
from app.settings import Settings
from ops.embedded_redis import free_port
from tests.model_ledger import PLACE, a_job, a_running_job, everything

NOW_MS = 1_800_000_000_000


@pytest.fixture(autouse=True)
def books_balance(ledger: Ledger) -> Iterator[None]:
    ledger.now_ms = NOW_MS
    yield
    assert ledger.census().balanced


# -- submit


def test_a_submit_writes_the_record_its_place_in_line_and_its_wakeup_at_once(
        ledger: Ledger, client: redis.Redis) -> None:
    new = a_job(deadline_s=5.0, lane=Lane.INTERACTIVE, trace="00-abc-def-01", parent="p")

    answer = ledger.submit(new)

    assert (answer.outcome, answer.job_id) == (Submitted.ACCEPTED, new.id)
    job = ledger.read(new.id)
    assert (job.state, job.attempt, job.position, job.input, job.parent) == (State.QUEUED, 0, 0, new.input, "p")
    assert (job.created_ms, job.deadline_ms, job.lane) == (NOW_MS, NOW_MS + 5000, Lane.INTERACTIVE)
    assert client.zrange("waiting:model", 0, -1) == client.zrange("woken:model", 0, -1) == [new.id.encode()]
    (message,) = client.lrange("model", 0, -1)
    assert json.loads(message)["headers"]["id"] == new.id
    assert client.hgetall("counts") == {b"accepted": b"1"}


def test_the_answer_to_a_submit_shows_the_job_as_a_read_right_after_it(ledger: Ledger) -> None:
    ledger.submit(a_job())
    answer = ledger.submit(a_job())

    assert answer.job
    assert answer.job.public(durability=1) == ledger.read(answer.job_id).public(durability=1)


def test_a_submit_whose_reply_was_lost_may_be_sent_again_and_changes_nothing(
        ledger: Ledger, client: redis.Redis) -> None:
    new = a_job(idempotency_key="k")
    ledger.submit(new)
    before = everything(client)

    again = ledger.submit(new)

    assert (again.outcome, again.job_id) == (Submitted.KNOWN, new.id)
    assert everything(client) == before


def test_the_same_idempotency_key_and_body_answer_with_the_first_job(ledger: Ledger) -> None:
    first = ledger.submit(a_job(idempotency_key="k"))
    second = ledger.submit(a_job(idempotency_key="k"))

    assert (second.outcome, second.job_id, second.job) == (Submitted.REPLAYED, first.job_id, None)
    assert ledger.census().counts == {"accepted": 1}


def test_the_same_idempotency_key_with_another_body_is_a_mismatch(ledger: Ledger) -> None:
    first = ledger.submit(a_job(idempotency_key="k"))
    second = ledger.submit(a_job(idempotency_key="k", digest="other"))

    assert (second.outcome, second.job_id) == (Submitted.MISMATCH, first.job_id)
    assert ledger.census().counts == {"accepted": 1}


def test_an_idempotency_key_is_known_to_its_tenant_only(ledger: Ledger) -> None:
    for tenant in ("ann", "bob"):
        assert ledger.submit(a_job(tenant=tenant, idempotency_key="k")).outcome is Submitted.ACCEPTED


def test_an_idempotency_key_is_forgotten_after_its_life(
        ledger: Ledger, client: redis.Redis, settings: Settings) -> None:
    ledger.submit(a_job(idempotency_key="k"))

    (key,) = client.keys("idem:*")
    assert 0 <= settings.idempotency_s * 1000 - client.pttl(key) < 5000


def test_without_a_given_time_the_ledger_takes_the_clock_of_redis(
        ledger: Ledger, client: redis.Redis) -> None:
    ledger.now_ms = None
    before_s, _ = client.time()
    job_id = ledger.submit(a_job()).job_id
    after_s, _ = client.time()

    assert before_s * 1000 <= ledger.read(job_id).created_ms < (after_s + 1) * 1000


# -- cancel


def test_a_queued_job_is_cancelled_at_once_and_never_runs(ledger: Ledger) -> None:
    job_id = ledger.submit(a_job()).job_id

    assert ledger.cancel(job_id) is State.CANCELLED
    assert ledger.claim(job_id, PLACE, owner=new_owner()) is State.CANCELLED
    assert json.loads(ledger.read(job_id).error or b"")["code"] == "cancelled"


def test_a_running_job_is_cancelled_at_once_and_its_late_result_is_refused(ledger: Ledger) -> None:
    claim = a_running_job(ledger)

    assert ledger.cancel(claim.id) is State.CANCELLED
    assert ledger.settle(claim, State.SUCCEEDED, Ending(result=b'"late"')) is Settled.STALE
    assert ledger.release(claim, because="error") is Settled.STALE
    job = ledger.read(claim.id)
    assert (job.state, job.result, job.recorded) == (State.CANCELLED, None, 1)


def test_a_job_that_waits_out_a_delay_can_be_cancelled(ledger: Ledger) -> None:
    claim = a_running_job(ledger)
    ledger.release(claim, because="error", wait_s=60.0)

    assert ledger.cancel(claim.id) is State.CANCELLED
    assert ledger.census().delayed == 0


def test_an_ended_job_keeps_its_end_when_it_is_cancelled(ledger: Ledger, client: redis.Redis) -> None:
    claim = a_running_job(ledger)
    ledger.settle(claim, State.SUCCEEDED)
    before = everything(client)

    assert ledger.cancel(claim.id) is State.SUCCEEDED
    assert everything(client) == before


# -- read, tenants, retention


def test_position_and_eta_come_from_the_line_the_pace_and_the_slots(
        ledger: Ledger, client: redis.Redis) -> None:
    ids = sorted(ledger.submit(a_job()).job_id for _ in range(3))  # of the same millisecond
    assert ledger.read(ids[2]).eta_s is None  # nothing was measured yet

    client.hset("pace", "model", "500.0")
    client.hset("slots", "model", 2)
    assert [(ledger.read(job_id).position, ledger.read(job_id).eta_s) for job_id in ids] == [
        (0, 0.5), (1, 0.5), (2, 1.0)]  # two at a time


def test_the_pace_follows_the_run_times(ledger: Ledger, client: redis.Redis) -> None:
    for run_ms in (1000, 2000):
        claim = a_running_job(ledger)
        ledger.now_ms = (ledger.now_ms or 0) + run_ms
        ledger.settle(claim, State.SUCCEEDED)

    assert client.hget("pace", "model") == b"1100.0"  # 1000, then a tenth of the way to 2000


def test_another_tenants_job_is_unknown_to_read_and_to_cancel(ledger: Ledger) -> None:
    job_id = ledger.submit(a_job(tenant="ann")).job_id

    for call in (ledger.read, ledger.cancel):
        with pytest.raises(JobUnknown):
            call(job_id, "bob")
    assert ledger.read(job_id, "ann").state is State.QUEUED


def test_a_job_past_retention_is_gone_for_its_owner_and_unknown_to_others(
        ledger: Ledger, client: redis.Redis, settings: Settings) -> None:
    claim = a_running_job(ledger, tenant="ann")
    ledger.settle(claim, State.SUCCEEDED)
    ledger.now_ms = NOW_MS + round(settings.retention_s * 1000) - 1
    assert ledger.purge() == 0

    ledger.now_ms += 1
    assert ledger.purge() == 1
    assert ledger.purge() == 0
    for call in (ledger.read, ledger.cancel):
        for tenant in ("ann", ""):
            with pytest.raises(JobGone) as gone:
                call(claim.id, tenant)
            assert gone.value.status == 410
        with pytest.raises(JobUnknown) as unknown:
            call(claim.id, "bob")
        assert unknown.value.status == 404
    assert 0 <= settings.tombstone_s * 1000 - client.pttl(f"gone:{claim.id}") < 5000
    assert ledger.settle(claim, State.SUCCEEDED) is Settled.STALE
    assert client.exists(f"job:{claim.id}") == 0, "a late settle brought the record back"


def test_a_job_nobody_submitted_is_unknown(ledger: Ledger) -> None:
    with pytest.raises(JobUnknown, match="there is no job 0198"):
        ledger.read("0198")


def test_the_census_counts_each_job_where_it_is(ledger: Ledger, settings: Settings) -> None:
    claims = [a_running_job(ledger) for _ in range(4)]
    waiting = [ledger.submit(a_job(Service.CHAT)).job_id for _ in range(3)]
    ledger.settle(claims[0], State.SUCCEEDED)
    ledger.settle(claims[1], State.FAILED)
    ledger.release(claims[2], because="error", wait_s=9.0)
    ledger.cancel(waiting[0])

    census = ledger.census()
    assert census.balanced
    assert (census.waiting[Service.CHAT], census.delayed, census.running, census.finished) == (2, 1, 1, 3)
    assert (census.live, census.terminal) == (4, 3)
    assert census.counts == {"accepted": 7, "succeeded": 1, "failed": 1, "cancelled": 1, "released": 1}

    ledger.now_ms = NOW_MS + round(settings.retention_s * 1000)
    ledger.purge()
    census = ledger.census()
    assert census.balanced
    assert (census.finished, census.terminal, census.counts["purged"]) == (0, 3, 3)


# -- when Redis fails


def test_a_redis_that_cannot_be_reached_is_store_unavailable(settings: Settings) -> None:
    nobody = redis.Redis(port=free_port(), retry=Retry(NoBackoff(), 0))

    with pytest.raises(StoreUnavailable, match="ConnectionError") as failure:
        Ledger(nobody, settings).submit(a_job())
    assert failure.value.status == 503
    assert failure.value.retryable
    assert isinstance(failure.value.__cause__, redis.exceptions.ConnectionError)


def test_a_full_redis_refuses_a_submit_as_a_whole_but_lets_running_jobs_end(
        ledger: Ledger, client: redis.Redis) -> None:
    claim = a_running_job(ledger)
    before = everything(client)
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable):
            ledger.submit(a_job(idempotency_key="k", deadline_s=1.0))
        assert everything(client) == before
        assert ledger.settle(claim, State.SUCCEEDED, Ending(result=b'"hi"')) is Settled.RECORDED
    finally:
        client.config_set("maxmemory", 0)


def test_a_redis_that_is_only_a_replica_is_store_unavailable(ledger: Ledger, client: redis.Redis) -> None:
    client.replicaof("127.0.0.1", free_port())
    try:
        with pytest.raises(StoreUnavailable, match=r"(?i)read.?only"):
            ledger.submit(a_job())
    finally:
        client.replicaof("NO", "ONE")


def test_scripts_are_loaded_again_after_redis_forgot_them(ledger: Ledger, client: redis.Redis) -> None:
    claim = a_running_job(ledger)
    client.script_flush()

    assert ledger.settle(claim, State.SUCCEEDED) is Settled.RECORDED
    client.script_flush()
    assert ledger.read(claim.id).state is State.SUCCEEDED
